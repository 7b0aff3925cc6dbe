-- Runs once, on an empty volume: one account and one database each for studies and for MLflow.
-- Passwords come from the environment, so that they stand in no file and in no list of processes.
\set ON_ERROR_STOP on
\getenv study_password STUDY_PASSWORD
\getenv mlflow_password MLFLOW_PASSWORD
CREATE ROLE studies LOGIN PASSWORD :'study_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE studies OWNER studies;
CREATE DATABASE mlflow OWNER mlflow;
REVOKE ALL ON DATABASE studies, mlflow FROM PUBLIC;
