"""The command line of shelfkin.stages.select_k, for spark-submit."""

from shelfkin.stages.select_k import APP

if __name__ == "__main__":
    APP.main()
