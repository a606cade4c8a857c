// The Durable Functions extension itself on Azure Storage, with its functions forwarded over HTTP to the tests' process.
//
// Environment: BRIDGE (origin of the tests' process, see ../real_host.py), REAL_PORT (of the webhooks), HUB,
// DURABLE_OPTIONS (the durableTask section of host.json), FUNCTIONS_WORKER_RUNTIME=python, AzureWebJobsStorage.
//
// The Functions host makes a .NET method for each function of a worker; so does this program. Members that are not
// public are looked up by name, so another version of the extension may need other names here.

using System.Reflection;
using System.Reflection.Emit;
using System.Text;
using Microsoft.Azure.WebJobs;
using Microsoft.Azure.WebJobs.Description;
using Microsoft.Azure.WebJobs.Extensions.DurableTask;
using Microsoft.Azure.WebJobs.Host.Config;
using Newtonsoft.Json.Linq;

string Setting(string key, string otherwise = null) =>
    Environment.GetEnvironmentVariable(key) ?? otherwise ?? throw new Exception(key + " is not set");

var bridge = Setting("BRIDGE");
var hub = Setting("HUB", "recorded");
Forward.Bridge = bridge;
Hooks.Origin = bridge;
var functions = JArray.Parse(await Forward.Http.GetStringAsync(bridge + "/real/functions"));

var web = WebApplication.CreateBuilder();
web.WebHost.UseUrls($"http://127.0.0.1:{int.Parse(Setting("REAL_PORT", "17080"))}");
web.Logging.SetMinimumLevel(LogLevel.Warning);
web.Services.AddSingleton<ITypeLocator>(new Made.Locator(Made.Functions(functions)));
web.Services.AddSingleton<Hooks>();
web.Services.AddSingleton<IWebHookProvider>(services => services.GetRequiredService<Hooks>());
web.Host.ConfigureWebJobs(builder =>
{
    builder.AddAzureStorageCoreServices();
    builder.AddDurableTask(options =>
    {
        options.HubName = hub;
        options.LocalRpcEndpointEnabled = true;
        Newtonsoft.Json.JsonConvert.PopulateObject(Setting("DURABLE_OPTIONS", "{}"), options);
    });
});

var app = web.Build();
var extension = app.Services.GetServices<IExtensionConfigProvider>().OfType<DurableTaskExtension>().Single();
app.MapGet("/client", () => Results.Text(Client.Payload(extension, hub), "application/json"));
app.Map("/runtime/webhooks/durabletask/{**rest}", async (HttpContext context) =>
{
    var url = $"{bridge}{context.Request.Path}{context.Request.QueryString}";
    var request = new HttpRequestMessage(new HttpMethod(context.Request.Method), url);
    var body = await new StreamReader(context.Request.Body).ReadToEndAsync();
    if (body.Length > 0 || context.Request.Method == "POST")
        request.Content = new StringContent(body, Encoding.UTF8, "application/json");
    var answer = await ((IAsyncConverter<HttpRequestMessage, HttpResponseMessage>)extension).ConvertAsync(request, default);
    context.Response.StatusCode = (int)answer.StatusCode;
    if (answer.Headers.Location != null)
        context.Response.Headers.Location = answer.Headers.Location.ToString();
    if (answer.Content != null)
    {
        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(await answer.Content.ReadAsStringAsync());
    }
});
await app.RunAsync();

// What the durableClient binding hands to the SDK: the text of the extension's own converter.
static class Client
{
    const BindingFlags Any = BindingFlags.NonPublic | BindingFlags.Public | BindingFlags.Instance;

    public static string Payload(DurableTaskExtension extension, string hub)
    {
        var attribute = new DurableClientAttribute { TaskHub = hub };
        var type = typeof(DurableTaskExtension).Assembly.GetType(
            "Microsoft.Azure.WebJobs.Extensions.DurableTask.BindingHelper");
        var helper = Activator.CreateInstance(type, Any, null, new object[] { extension }, null);
        var client = extension.GetType().GetMethods(Any).First(method => method.Name == "GetClient")
            .Invoke(extension, new object[] { attribute });
        return (string)type.GetMethod("DurableOrchestrationClientToString").Invoke(helper, new[] { client, attribute });
    }
}

class Hooks : IWebHookProvider
{
    public static string Origin;

    public Uri GetUrl(IExtensionConfigProvider extension) => new(Origin + "/runtime/webhooks/durabletask?code=k");
}

public static class Forward
{
    public static string Bridge;
    public static readonly HttpClient Http = new() { Timeout = TimeSpan.FromMinutes(12) };

    public static async Task<object> Call(string kind, string name, string input)
    {
        var answer = await Http.PostAsync(
            $"{Bridge}/real/invoke/{kind}/{Uri.EscapeDataString(name)}",
            new StringContent(input ?? "", Encoding.UTF8, "application/json"));
        var text = await answer.Content.ReadAsStringAsync();
        if (!answer.IsSuccessStatusCode)
        {
            var failure = JObject.Parse(text);
            throw new Exception($"Result: Failure\nException: {failure["message"]}\nStack: {failure["stack"]}");
        }
        if (answer.Headers.Contains("x-null"))
            return null;
        // A worker's results are JSON text: the Functions host hands objects on as JObject and JArray, the rest as they are.
        try
        {
            var token = JToken.Parse(text);
            var isPlain = kind == "activity" && token.Type is not (JTokenType.Object or JTokenType.Array);
            return isPlain ? ((JValue)token).Value : token;
        }
        catch (Newtonsoft.Json.JsonException)
        {
            return text;
        }
    }
}

public static class Made
{
    public class Locator(Type type) : ITypeLocator
    {
        public IReadOnlyList<Type> GetTypes() => new[] { type };
    }

    // A type with one static method for each function: a string trigger parameter, forwarded to Forward.Call.
    public static Type Functions(JArray functions)
    {
        var assembly = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Made"), AssemblyBuilderAccess.Run);
        var type = assembly.DefineDynamicModule("m").DefineType(
            "Functions", TypeAttributes.Public | TypeAttributes.Class | TypeAttributes.Abstract | TypeAttributes.Sealed);
        foreach (var function in functions)
            Add(type, (string)function["kind"], (string)function["name"]);
        return type.CreateType();
    }

    static void Add(TypeBuilder type, string kind, string name)
    {
        var plain = new string(name.Select(c => char.IsLetterOrDigit(c) ? c : '_').ToArray());
        var method = type.DefineMethod(
            $"f_{kind}_{plain}", MethodAttributes.Public | MethodAttributes.Static, typeof(Task<object>), new[] { typeof(string) });
        method.SetCustomAttribute(new CustomAttributeBuilder(
            typeof(FunctionNameAttribute).GetConstructor(new[] { typeof(string) }), new object[] { name }));
        var (trigger, property) = kind switch
        {
            "orchestration" => (typeof(OrchestrationTriggerAttribute), "Orchestration"),
            "activity" => (typeof(ActivityTriggerAttribute), "Activity"),
            _ => (typeof(EntityTriggerAttribute), "EntityName"),
        };
        var parameter = method.DefineParameter(1, ParameterAttributes.None, kind == "activity" ? "payload" : "context");
        parameter.SetCustomAttribute(new CustomAttributeBuilder(
            trigger.GetConstructor(Type.EmptyTypes), Array.Empty<object>(),
            new[] { trigger.GetProperty(property) }, new object[] { name }));
        var code = method.GetILGenerator();
        code.Emit(OpCodes.Ldstr, kind);
        code.Emit(OpCodes.Ldstr, name);
        code.Emit(OpCodes.Ldarg_0);
        code.Emit(OpCodes.Call, typeof(Forward).GetMethod("Call"));
        code.Emit(OpCodes.Ret);
    }
}
