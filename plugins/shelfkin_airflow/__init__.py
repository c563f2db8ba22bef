"""What shelfkin adds to Airflow: the operators of its DAGs."""
