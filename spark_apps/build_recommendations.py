"""The command line of shelfkin.stages.build_recommendations, for spark-submit."""

from shelfkin.stages.build_recommendations import APP

if __name__ == "__main__":
    APP.main()
