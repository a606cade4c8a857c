// App Service Authentication: the platform checks every token before the app sees a request, and writes who it is.
param appName string
param clientId string

@description('Consoles elsewhere that a sign-in may send its caller, and their session token, back to.')
param consoleOrigins array

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: appName
}

resource auth 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: { enabled: true, runtimeVersion: '~1' }
    globalValidation: {
      requireAuthentication: true
      // Browsers (the console, an approver who follows a link) are sent to sign in; programs send a token.
      unauthenticatedClientAction: 'RedirectToLoginPage'
      redirectToProvider: 'azureactivedirectory'
      // Each of these has a check of its own, or says nothing that is not public.
      excludedPaths: [
        '/api/v1/health/live'
        '/api/internal/relay'
      ]
    }
    httpSettings: { requireHttps: true }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
          clientId: clientId
          clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
        }
        validation: { allowedAudiences: [clientId, 'api://${clientId}'] }
      }
    }
    login: { tokenStore: { enabled: false }, allowedExternalRedirectUrls: consoleOrigins }
  }
}
