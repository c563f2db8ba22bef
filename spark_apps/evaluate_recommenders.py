"""The command line of shelfkin.stages.evaluate_recommenders, for spark-submit."""

from shelfkin.stages.evaluate_recommenders import APP

if __name__ == "__main__":
    APP.main()
