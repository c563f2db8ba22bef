"""Names for clusters, from the shop's own texts; docs/naming.md tells the chain with examples.

1. `product_texts` fetches the titles, category paths and brands of every cluster's products, or of a sample of them.
2. `truncated_titles` drops the last word of titles that a field of fixed width cut off.
3. `abbreviations` finds what a till's short words stand for.
4. `phrases` cuts texts into words and pairs of words, and tells how each is used.
5. `ctfidf` weighs them by class-based TF-IDF: the terms of each cluster.
6. `name_candidates` makes of terms what a sign may carry, and how much it counts.
7. `cluster_names` takes the one, two or three candidates that find a cluster best.
8. `name_share` counts the products that carry the name.
9. `chat_names` lets a chat model word the names, where a profile asks for it.

`naming_chain` runs steps 2 to 8.
"""
