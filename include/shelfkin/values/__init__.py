"""Values as people write them: one module for each kind, and their words and signs as data beside them.

| module | reads |
|---|---|
| missing | words that stand for no value (words.toml) |
| ids | product and user ids, the same in catalogue and events |
| numbers | quantities, and prices without a currency |
| prices | prices with their currencies (currencies.toml, ISO 4217 from babel) |
| stock | whether a product can be bought (words.toml) |
| times | ISO 8601, Postgres, numbers since 1970 (times.toml) |
"""
