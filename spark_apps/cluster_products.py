"""The command line of shelfkin.stages.cluster_products, for spark-submit."""

from shelfkin.stages.cluster_products import APP

if __name__ == "__main__":
    APP.main()
