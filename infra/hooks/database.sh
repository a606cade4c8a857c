#!/bin/sh
# Before new code is deployed: the schema it needs, then the app's role and rights. Runs as the database's Entra
# administrator, that is whoever is signed in to `az`. The token goes through the environment, never through arguments.
set -eu
cd "$(dirname "$0")/../.."
PGPASSWORD=$(az account get-access-token --resource-type oss-rdbms --query accessToken --output tsv)
PGUSER=$POSTGRES_ADMIN
export PGPASSWORD PGUSER
POSTGRES_URL="postgresql://$POSTGRES_HOST:5432/$POSTGRES_DATABASE?sslmode=verify-full&sslrootcert=system"
export POSTGRES_URL
./dev migrate
.venv/bin/python infra/hooks/database.py
