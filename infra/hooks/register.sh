#!/bin/sh
# Once per environment, by somebody who may register applications: the Entra application that callers sign in to, with
# the roles of app-roles.json. After `azd provision` run it again: it then lets the app's identity stand in for a client
# secret. Prints the client id, which goes into the environment: azd env set PARLEY_AUTH_CLIENT_ID <id>.
set -eu
cd "$(dirname "$0")/.."
name=${1:-parley-$AZURE_ENV_NAME}
# Once it is made, by its id: a name can be taken by anybody who may register applications.
id=${PARLEY_AUTH_CLIENT_ID:-}
if [ -z "$id" ]; then
  # By filter, since --display-name finds every name that begins so: an environment `dev` would meet that of `dev2`.
  found=$(az ad app list --filter "displayName eq '$name'" --query '[].appId' --output tsv)
  if [ -n "$found" ]; then
    echo "register.sh: there is an application named $name already:" $found >&2
    echo "register.sh: if it is this environment's: azd env set PARLEY_AUTH_CLIENT_ID <id>; else choose another name" >&2
    exit 1
  fi
  id=$(az ad app create --display-name "$name" --sign-in-audience AzureADMyOrg --enable-id-token-issuance true \
    --app-roles @app-roles.json --query appId --output tsv)
  az ad app update --id "$id" --identifier-uris "api://$id"
  az ad sp create --id "$id" --output none
fi
# Tokens of version 2: their issuer is the one that App Service is told to accept (infra/modules/app/auth.bicep).
az ad app update --id "$id" --set api='{"requestedAccessTokenVersion": 2}' --output none
# Only who has been given a role may sign in, not everybody in the tenant. Each time, so that it is not switched off for
# long.
az ad sp update --id "$id" --set appRoleAssignmentRequired=true --output none
if [ -n "${SERVICE_APP_URI:-}" ]; then
  az ad app update --id "$id" --web-redirect-uris "$SERVICE_APP_URI/.auth/login/aad/callback"
  tenant=$(az account show --query tenantId --output tsv)
  if [ -z "$(az ad app federated-credential list --id "$id" --query "[?name=='app'].name" --output tsv)" ]; then
    az ad app federated-credential create --id "$id" --output none --parameters "{
      \"name\": \"app\", \"issuer\": \"https://login.microsoftonline.com/$tenant/v2.0\",
      \"subject\": \"$APP_IDENTITY_OBJECT_ID\", \"audiences\": [\"api://AzureADTokenExchange\"]}"
  fi
fi
echo "$id"
