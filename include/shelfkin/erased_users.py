"""Customers who are to be forgotten: salted hashes of their ids, so that nothing else need know who they were.

``stores/<store>/erased/salt.json`` holds the store's salt, and ``erased/<hash>.json`` one customer: by whom, when and
why they were erased, and how many rows went. Whoever has the salt can try ids one by one, so these files are a list of
customers like any other; they hold none in clear text.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from shelfkin.artifacts import Root, utc_now
from shelfkin.errors import OptionError
from shelfkin.profile import IdRule

WITHHELD = "withheld: it named a customer who was erased"
# An id in free text is looked for in stretches of so many words and signs; an e-mail address has about nine.
_MAX_PIECES = 15
MAX_REASON = 500


@dataclass(frozen=True)
class ErasedUsers:
    """The customers of a store who were erased; false if there are none.

    Attributes
    ----------
    salt
        Goes before an id when it is hashed.
    hashes
        SHA-256 of salt and id, UTF-8, as hex digits.
    rule
        How the shop's user ids are written.
    """

    salt: str = ""
    hashes: frozenset[str] = frozenset()
    rule: IdRule = field(default_factory=IdRule)

    @classmethod
    def of(cls, root: Root, store: str, rule: IdRule) -> ErasedUsers:
        """Read a store's list."""
        uri = _salt_uri(root, store)
        salt = str(root.read_json(uri)["salt"]) if root.exists(uri) else secrets.token_hex(16)
        names = root.names(_folder(root, store))
        hashes = (name.removesuffix(".json") for name in names if re.fullmatch(r"[0-9a-f]{64}\.json", name))
        return cls(salt, frozenset(hashes), rule)

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def hash_of(self, user_id: str) -> str:
        """Return what stands in the list for an id."""
        return hashlib.sha256((self.salt + user_id).encode(errors="surrogatepass")).hexdigest()

    def only(self, written: str) -> ErasedUsers:
        """Return a list of one customer, with this list's salt.

        Parameters
        ----------
        written
            The id as the shop writes it, or as tables hold it.

        Raises
        ------
        OptionError
            It is blank.
        """
        user_id = normalised(written, self.rule)
        if not user_id:
            raise OptionError("No customer was named.", next_step="Write USER=... as the shop's files do.")
        return replace(self, hashes=frozenset([self.hash_of(user_id)]))

    def has(self, user_id: str | None) -> bool:
        """Whether an id, as tables hold it, is an erased customer's."""
        return user_id is not None and self.hash_of(user_id) in self.hashes

    def among(self, user_ids: Iterable[str | None]) -> list[str]:
        """Return those of `user_ids`, as tables hold them, that are erased customers'."""
        return [user_id for user_id in user_ids if user_id is not None and self.has(user_id)]

    def wrote(self, written: object) -> bool:
        """Whether a value of a source's user column is an erased customer's."""
        return written is not None and self.has(normalised(str(written), self.rule))

    def mentioned(self, text: str) -> bool:
        """Whether a text that nobody could take apart names an erased customer."""
        text = _folded(text, self.rule)
        pieces = [piece.span() for piece in re.finditer(r"\w+|[^\w\s]", text)]
        stretches = {
            text[start:end] for first, (start, _) in enumerate(pieces) for _, end in pieces[first : first + _MAX_PIECES]
        }
        suffix = self.rule.strip_suffix
        return any(self.has(found) or (suffix and self.has(found.removesuffix(suffix))) for found in stretches)


def record_erased(root: Root, store: str, erased: ErasedUsers, by: str, why: str) -> ErasedUsers:
    """Add customers to a store's list; return them as they stand there.

    From now on every run of the store leaves them out.

    Raises
    ------
    OptionError
        There is no reason, it is too long, or it names the customer.
    """
    if not why.strip() or len(why) > MAX_REASON:
        raise OptionError(
            f"A reason of 1 to {MAX_REASON} characters is needed; this one has {len(why.strip())}.",
            next_step="Say in a few words why.",
        )
    if erased.mentioned(why):
        raise OptionError("The reason names the customer.", next_step="Name the request instead, such as a ticket.")
    root.put_json_if_absent(_salt_uri(root, store), {"salt": erased.salt})
    if root.read_json(_salt_uri(root, store))["salt"] != erased.salt:
        raise OptionError("Somebody else has just erased this store's first customer.", next_step="Do it again.")
    for name in erased.hashes:
        root.put_json_if_absent(_uri(root, store, name), {"by": by, "why": why, "at": utc_now()})
    return erased


def record_rows(root: Root, store: str, erased: ErasedUsers, done: Mapping[str, Any]) -> None:
    """Add to each customer's record what erasing them changed, unless it says so already.

    Customers who were added since the last time share one account.
    """
    for name in erased.hashes:
        record = root.read_json(_uri(root, store, name))
        if "done" not in record:
            root.put_json(_uri(root, store, name), {**record, "done": {"at": utc_now(), **done}})


def normalised(written: str, rule: IdRule) -> str:
    """Return an id as tables hold it: what `values.ids.normalised_id` does in Spark."""
    found = "".join(
        sign if unicodedata.category(sign) not in ("Zs", "Zl", "Zp") else " "
        for sign in unicodedata.normalize("NFC", written)
        if not re.fullmatch("[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufe00-\ufe0f]", sign)
        and unicodedata.category(sign) not in ("Cf", "Cc")
    )
    if wrapped := re.fullmatch(r"(?:=\"|'|\s)+(.*?)[\"'\s]*", found):
        found = wrapped.group(1)
    found = re.sub(r"^(-?(?:0|[1-9]\d*))\.0+$", r"\1", found.strip(" "))
    if re.fullmatch(r"-?[1-9](?:\.\d+[eE]\+?\d{1,2}|[eE]\+\d{2})", found) and Decimal(found) % 1 == 0:
        found = f"{Decimal(found):.0f}"
    return _folded(found.removesuffix(rule.strip_suffix), rule)


def _folded(text: str, rule: IdRule) -> str:
    return {"keep": text, "upper": text.upper(), "lower": text.lower()}[rule.case]


def _folder(root: Root, store: str) -> str:
    return root.join("stores", store, "erased")


def _salt_uri(root: Root, store: str) -> str:
    return root.join("stores", store, "erased", "salt.json")


def _uri(root: Root, store: str, name: str) -> str:
    return root.join("stores", store, "erased", f"{name}.json")
