"""The command line of shelfkin.stages.forecast_backfill, for spark-submit."""

from shelfkin.stages.forecast_backfill import APP

if __name__ == "__main__":
    APP.main()
