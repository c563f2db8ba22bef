"""Pages beside Airflow's own: what a run found, how good it is, and the shop's clusters, products and customers.

`app` has the routes and who may see them. `shop` finds runs and opens serving indexes; `report`, `result`, `history`
and `explore` turn what they hold into what a page shows. Pages read manifests, pointers and the serving index; of
tables only the head of a quarantine and the few hundred figures of a backtest.
"""
