"""Text repair: pure Python, no Spark."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfkin.catalog.text import repair


@pytest.mark.parametrize(
    ("damaged", "repaired"),
    [
        ("CafÃ© crÃ¨me", "Café crème"),  # UTF-8 read as Latin-1
        ("Gift Voucher Â£100.00", "Gift Voucher £100.00"),
        ("Salt &amp; pepper", "Salt & pepper"),
        ("Salt &amp;amp; pepper", "Salt & pepper"),  # escaped twice
        ("<p>Soft <b>towel</b></p><br/>blue", "Soft towel blue"),
        ("Lamp<script>alert(1)</script><!-- note --> black", "Lamp black"),
        ("  two\t words\n here \u00a0", "two words here"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("bell\x07", "bell"),
        ("Cafe\u0301", "Café"),  # NFC
        ("I <3 cats, 5 < 6 > 4", "I <3 cats, 5 < 6 > 4"),  # no tags here
        ("A > B", "A > B"),
        ("It\u2019s \u201cfine\u201d", "It\u2019s \u201cfine\u201d"),  # the shop's own quotes stay
        ("CORAZÃ“N ROJO", "CORAZÓN ROJO"),
        ("CAFÃ‰ GLACÃ‰", "CAFÉ GLACÉ"),
        ("SÃ£o JoÃ£o", "São João"),
        ("NÂº 5", "Nº 5"),
        ("Ð§Ð°Ð¹", "Чай"),
        ("Jalape&ntilde;o", "Jalapeño"),
        ("Caf&eacute noir", "Café noir"),
        ("Levi&#39s", "Levi's"),
        ("Bits&ampBobs &amp more", "Bits&ampBobs & more"),
        ("4 &times 4 &frac12", "4 × 4 ½"),
        ("<TABLE BORDER=0><TR><TD>Sofa</TABLE>", "Sofa"),
        ("<P>one<P>two</P>", "one two"),
        ("<o:p>Word</o:p> <a href='#'>link</a><hr noshade>", "Word link"),
        ("soft\u00adware\u200b", "software"),
        ("a\u200cb \u200dc", "ab c"),  # no joiner belongs between these
        ("کتاب\u200c", "کتاب"),
    ],
)
def test_known_damage_is_repaired(damaged: str, repaired: str) -> None:
    assert repair(damaged) == repaired


@pytest.mark.parametrize(
    "right",
    [
        "Rock&not roll",
        "【送料無料】羊羹～①（大）、ＡＢＣ！",
        "茶杯，大号：２件",
        "ﾃﾞｽｸﾗｲﾄ",
        "Jalape&ntildeo",  # nobody can say where it ends
        "Cats&copy",
        "AT&T, R&D; B&B",
        "Menu &foo; bar",
        "http://shop.example/?id=7&reg=eu&copy=1 sheet",
        "www.shop.example/?x=1&times=2",
        "PULSEIRA «IRMÃ»",
        "«LÃ» 100 g",
        "AVELÃ® creme",
        "MANHÃ™ e TARDE",
        "JACARANDÁ” ÉTÉ’ CANADÁ®",
        "می\u200cروم خانه\u200cها",
        "ශ්\u200dරී ලංකා",
        "ക്ഷ ന്\u200d",
        "क्\u200dष र्\u200cय",
        "👩\u200d🚒 🏳️\u200d🌈 ❤️\u200d🔥",
        "Sizes <S> <M> <XL>",
        "Bolt <M8>, a<b, c>d, x<3",
        "a<b and c>d",
        "Mail <ann@shop.example>",
        "if 1<2>0",
        "Größe 5–7 µm ½ €",
        "ราคาถูก ភាសាខ្មែរ 日本語テスト 한국어 עברית",
    ],
)
def test_right_text_stays(right: str) -> None:
    assert repair(right) == right


# Words of letters and marks in one script each, as people write it.
ALPHABETS = {
    "Latin": "abcdefghijklmnopqrstuvwxyzàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿšžőűğışţąęłńśźżčďěňřť",
    "LATIN": "ABCDEFGHIJKLMNOPQRSTUVWXYZÀÁÂÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝŠŽŐŰĞİŞŢĄĘŁŃŚŹŻČĎĚŇŘŤ",
    "Greek": "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ",
    "Cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ",
    "Hebrew": "אבגדהוזחטיכךלמםנןסעפףצץקרשת",
    "Arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهويةىءأإآؤئپچژگکی",
    "Devanagari": "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौंः",
    "Thai": "กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวศษสหอฮะาเแโใไ",
    "kana": "あいうえおかきくけこさしすせそアイウエオカキクケコサシスセソー",
    "Han": "的一是不了人我在有他这中大来上国商品家居用红色",
    "Hangul": "가나다라마바사아자차카타파하한국어",
    "emoji": "🧦👕🎁🍎🚲🏠⚽",
    "Armenian": "աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆ",
    "Georgian": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
}
WORDS = st.one_of([st.text(alphabet, min_size=1, max_size=9) for alphabet in ALPHABETS.values()])


@given(st.lists(WORDS, min_size=1, max_size=6), st.sampled_from([" ", " & ", ", ", " – ", " / ", " < ", "+", " («»)"]))
def test_right_words_of_every_script_stay(words: list[str], between: str) -> None:
    right = between.join(words)
    assert repair(right) == right


# Without Â: hardly a word ends in it, and "Â»" is what a wrong encoding makes of a quote.
CAPITALS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZÀÁÃÄÇÉÊÍÑÓÔÕÖÚÜ", min_size=3, max_size=9)


@given(st.lists(CAPITALS, min_size=1, max_size=4))
def test_capitals_between_quotes_stay(words: list[str]) -> None:
    for right in (" ".join(f"«{word}»" for word in words), " ".join(f"{word}®" for word in words)):
        assert repair(right) == right


@given(st.text())
def test_any_text_can_be_repaired(text: str) -> None:
    repair(text)


@given(st.text(max_size=60))
def test_a_repaired_text_is_tidy(text: str) -> None:
    repaired = repair(text)
    assert repaired == repaired.strip()
    assert "  " not in repaired
    assert not any(unicodedata.category(char) == "Cc" for char in repaired)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<>&"), max_size=40))
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert repair(text) == text
