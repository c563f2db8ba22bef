"""The command line of shelfkin.stages.clean_events, for spark-submit."""

from shelfkin.stages.clean_events import APP

if __name__ == "__main__":
    APP.main()
