#!/bin/sh
# Before new code is deployed: the schema it needs, then the app's role and rights. Runs as an Entra administrator of the
# database, that is whoever is signed in to `az`. The token goes through the environment, never through arguments.
# No branches: tests/infra/hooks runs every line by running the script.
set -eu
cd "$(dirname "$0")/../.."
PGPASSWORD=$(az account get-access-token --subscription "$AZURE_SUBSCRIPTION_ID" --resource-type oss-rdbms --query accessToken --output tsv)
PGUSER=$POSTGRES_ADMIN
export PGPASSWORD PGUSER
POSTGRES_URL="postgresql://$POSTGRES_HOST/$POSTGRES_DATABASE?sslmode=verify-full&sslrootcert=system"
export POSTGRES_URL
# Tables belong to the role of all administrators: what a person made, a pipeline may change, and the other way round.
PGOPTIONS='-c role=azure_pg_admin' ./dev migrate
.venv/bin/python infra/hooks/database.py
