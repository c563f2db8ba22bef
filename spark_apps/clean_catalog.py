"""The command line of shelfkin.stages.clean_catalog, for spark-submit."""

from shelfkin.stages.clean_catalog import APP

if __name__ == "__main__":
    APP.main()
