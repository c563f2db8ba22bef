"""The command line of shelfkin.stages.embed_products, for spark-submit."""

from shelfkin.stages.embed_products import APP

if __name__ == "__main__":
    APP.main()
