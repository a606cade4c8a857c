BEGIN TRANSACTION;
CREATE TABLE entities (
  entity_id TEXT PRIMARY KEY,
  is_alive INTEGER NOT NULL,
  state TEXT,
  updated_us INTEGER NOT NULL
);
INSERT INTO "entities" VALUES('@counter@k',1,'3',1795954392469661);
CREATE TABLE entity_ops (
  seq INTEGER PRIMARY KEY,
  entity_id TEXT NOT NULL,
  operation TEXT NOT NULL,
  input TEXT,
  caller TEXT NOT NULL,
  request_id TEXT NOT NULL
);
CREATE TABLE history (
  gen INTEGER NOT NULL,
  position INTEGER NOT NULL,
  events TEXT NOT NULL,
  PRIMARY KEY (gen, position)
) WITHOUT ROWID;
INSERT INTO "history" VALUES(1,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.311425Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.310579Z","Name":"approval","Version":"","Input":"\"{\\\"timeout\\\": 432000}\"","OrchestrationInstance":{"InstanceId":"approval","ExecutionId":"40555fa8d14144bfa8437f1dade80916"},"ParentInstance":null,"Tags":null},{"EventType":10,"EventId":0,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.316000Z","FireAt":"2026-12-04T12:13:12.311425Z"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.316000Z"}');
INSERT INTO "history" VALUES(2,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.318506Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.318129Z","Name":"parent_of_a_wait","Version":"","Input":null,"OrchestrationInstance":{"InstanceId":"parent","ExecutionId":"cdf1b867215a40bc98278d6795045de5"},"ParentInstance":null,"Tags":null},{"EventType":7,"EventId":0,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.320119Z","Name":"two_events","Version":"","InstanceId":"waiting-kid","Input":"\"null\""},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.320119Z"}');
INSERT INTO "history" VALUES(3,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.320750Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.320119Z","Name":"two_events","Version":"","Input":"\"null\"","OrchestrationInstance":{"InstanceId":"waiting-kid","ExecutionId":"cea01ae8ba4b44d3b3eedde6b48090f3"},"ParentInstance":{"OrchestrationInstance":{"InstanceId":"parent"}},"Tags":null},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.321907Z"}');
INSERT INTO "history" VALUES(4,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.363229Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.362736Z","Name":"retried","Version":"","Input":"\"{\\\"key\\\": \\\"old\\\", \\\"failures\\\": [2]}\"","OrchestrationInstance":{"InstanceId":"retried","ExecutionId":"6f049090820543218c6e255663e2b372"},"ParentInstance":null,"Tags":null},{"EventType":4,"EventId":0,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.364988Z","Name":"flaky","Version":"","Input":"[\"{\\\"key\\\": \\\"old/0\\\", \\\"failures\\\": 2}\"]","RetryOf":0},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.364988Z"}');
INSERT INTO "history" VALUES(4,1,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.370475Z"},{"EventType":6,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.370103Z","TaskScheduledId":0,"Reason":"Activity function ''flaky'' failed:  RuntimeError: attempt 1","Details":"{\"ClassName\":\"Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException\",\"Message\":\"Result: Failure\\nException: RuntimeError: attempt 1\"}"},{"EventType":10,"EventId":1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.372422Z","FireAt":"2026-11-29T12:13:15.372422Z","RetryOf":0},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.372422Z"}');
INSERT INTO "history" VALUES(6,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.451033Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.450572Z","Name":"uses_counter","Version":"","Input":"\"\\\"k\\\"\"","OrchestrationInstance":{"InstanceId":"entity","ExecutionId":"9e8ebd6376754d93adfb1124067c2210"},"ParentInstance":null,"Tags":null},{"EventType":14,"EventId":0,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.452793Z","InstanceId":"@counter@k","Name":"add","Input":"{\"op\":\"add\",\"id\":\"98986e030bcb4b07ada67da8bebb27f1\",\"signal\":true,\"input\":\"1\",\"parent\":\"entity\",\"parentExecution\":\"9e8ebd6376754d93adfb1124067c2210\"}"},{"EventType":14,"EventId":1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.452793Z","InstanceId":"@counter@k","Name":"add","Input":"{\"op\":\"add\",\"id\":\"d2c19c22ac194fa88fe1825f1c89d774\",\"signal\":false,\"input\":\"2\",\"parent\":\"entity\",\"parentExecution\":\"9e8ebd6376754d93adfb1124067c2210\"}"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.452793Z"}');
INSERT INTO "history" VALUES(6,1,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.454617Z"},{"EventType":15,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.454284Z","Name":"d2c19c22ac194fa88fe1825f1c89d774","Input":"{\"result\":\"3\"}"},{"EventType":4,"EventId":2,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.456597Z","Name":"echo","Version":"","Input":"[\"3\"]"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.456597Z"}');
INSERT INTO "history" VALUES(6,2,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.457475Z"},{"EventType":5,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.457210Z","TaskScheduledId":2,"Result":"3"},{"EventType":14,"EventId":3,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.459860Z","InstanceId":"@counter@k","Name":"get","Input":"{\"op\":\"get\",\"id\":\"96585d671c7544598c351a8ac169f77d\",\"signal\":false,\"input\":\"null\",\"parent\":\"entity\",\"parentExecution\":\"9e8ebd6376754d93adfb1124067c2210\"}"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.459860Z"}');
INSERT INTO "history" VALUES(6,3,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.461977Z"},{"EventType":15,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.461652Z","Name":"96585d671c7544598c351a8ac169f77d","Input":"{\"result\":\"3\"}"},{"EventType":14,"EventId":4,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.464923Z","InstanceId":"@counter@k","Name":"explode","Input":"{\"op\":\"explode\",\"id\":\"5b3494ade1794f919f8f75c86c571585\",\"signal\":false,\"input\":\"null\",\"parent\":\"entity\",\"parentExecution\":\"9e8ebd6376754d93adfb1124067c2210\"}"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.464923Z"}');
INSERT INTO "history" VALUES(6,4,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.470022Z"},{"EventType":15,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.469683Z","Name":"5b3494ade1794f919f8f75c86c571585","Input":"{\"result\":\"\\\"unknown operation\\\"\",\"exceptionType\":\"System.Exception\"}"},{"EventType":1,"EventId":5,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.473508Z","OrchestrationStatus":1,"Result":"[3,3,3,\"unknown operation\"]"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.473508Z"}');
INSERT INTO "history" VALUES(7,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.539341Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.538842Z","Name":"fails","Version":"","Input":null,"OrchestrationInstance":{"InstanceId":"failed","ExecutionId":"373c933c75474b67bb13e86e93a63e2a"},"ParentInstance":null,"Tags":null},{"EventType":4,"EventId":0,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.540973Z","Name":"fail","Version":"","Input":"[\"\\\"luck\\\"\"]"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.540973Z"}');
INSERT INTO "history" VALUES(7,1,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.542065Z"},{"EventType":6,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.541793Z","TaskScheduledId":0,"Reason":"Activity function ''fail'' failed:  ValueError: no luck","Details":"{\"ClassName\":\"Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException\",\"Message\":\"Result: Failure\\nException: ValueError: no luck\"}"},{"EventType":1,"EventId":1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.543690Z","OrchestrationStatus":3,"Result":"Orchestrator function ''fails'' failed: Activity function ''fail'' failed:  ValueError: no luck \n {\"ClassName\":\"Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException\",\"Message\":\"Result: Failure\\nException: ValueError: no luck\"}"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.543690Z"}');
INSERT INTO "history" VALUES(8,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.627577Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.627056Z","Name":"holds","Version":"","Input":"\"{\\\"began\\\": \\\"/nowhere/x\\\", \\\"release\\\": \\\"/\\\"}\"","OrchestrationInstance":{"InstanceId":"holds","ExecutionId":"d939c1821d3640babd18e2f12772c428"},"ParentInstance":null,"Tags":null},{"EventType":4,"EventId":0,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.630595Z","Name":"wait_for_file","Version":"","Input":"[\"{\\\"began\\\": \\\"/nowhere/x\\\", \\\"release\\\": \\\"/\\\"}\"]"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.630595Z"}');
INSERT INTO "history" VALUES(8,1,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.631838Z"},{"EventType":6,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.631583Z","TaskScheduledId":0,"Reason":"Activity function ''wait_for_file'' failed:  FileNotFoundError: [Errno 2] No such file or directory: ''/nowhere/x''","Details":"{\"ClassName\":\"Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException\",\"Message\":\"Result: Failure\\nException: FileNotFoundError: [Errno 2] No such file or directory: ''/nowhere/x''\"}"},{"EventType":1,"EventId":1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.637500Z","OrchestrationStatus":3,"Result":"Orchestrator function ''holds'' failed: Activity function ''wait_for_file'' failed:  FileNotFoundError: [Errno 2] No such file or directory: ''/nowhere/x'' \n {\"ClassName\":\"Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException\",\"Message\":\"Result: Failure\\nException: FileNotFoundError: [Errno 2] No such file or directory: ''/nowhere/x''\"}"},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.637500Z"}');
INSERT INTO "history" VALUES(9,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.715279Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.714748Z","Name":"two_events","Version":"","Input":null,"OrchestrationInstance":{"InstanceId":"suspended","ExecutionId":"450394fbfdc44c148d10514bafc04c01"},"ParentInstance":null,"Tags":null},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:12.716902Z"}');
INSERT INTO "history" VALUES(9,1,'{"EventType":19,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:13.059618Z","Reason":"wait"}');
INSERT INTO "history" VALUES(10,0,'{"EventType":12,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:13.064726Z"},{"EventType":0,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:13.064104Z","Name":"collects","Version":"","Input":"\"[\\\"a\\\", \\\"b\\\"]\"","OrchestrationInstance":{"InstanceId":"collects","ExecutionId":"baf35a6d9b314b4aabfb5f38429507d6"},"ParentInstance":null,"Tags":null},{"EventType":13,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:13.069803Z"}');
CREATE TABLE instances (
  gen INTEGER PRIMARY KEY,
  instance_id TEXT NOT NULL UNIQUE,
  execution_id TEXT NOT NULL,
  name TEXT NOT NULL,
  version TEXT NOT NULL,
  status TEXT NOT NULL,
  input TEXT,
  output TEXT,
  custom_status TEXT,
  created_us INTEGER NOT NULL,
  updated_us INTEGER NOT NULL,
  parent_instance_id TEXT,
  parent_execution_id TEXT,
  parent_task_id INTEGER
);
INSERT INTO "instances" VALUES(1,'approval','40555fa8d14144bfa8437f1dade80916','approval','','Running','"{\"timeout\": 432000}"',NULL,'{"waiting":"Approval"}',1795954392310579,1795954392316000,NULL,NULL,NULL);
INSERT INTO "instances" VALUES(2,'parent','cdf1b867215a40bc98278d6795045de5','parent_of_a_wait','','Running',NULL,NULL,NULL,1795954392318129,1795954392320119,NULL,NULL,NULL);
INSERT INTO "instances" VALUES(3,'waiting-kid','cea01ae8ba4b44d3b3eedde6b48090f3','two_events','','Running','"null"',NULL,NULL,1795954392320119,1795954392321907,'parent','cdf1b867215a40bc98278d6795045de5',0);
INSERT INTO "instances" VALUES(4,'retried','6f049090820543218c6e255663e2b372','retried','','Running','"{\"key\": \"old\", \"failures\": [2]}"',NULL,NULL,1795954392362736,1795954392372422,NULL,NULL,NULL);
INSERT INTO "instances" VALUES(6,'entity','9e8ebd6376754d93adfb1124067c2210','uses_counter','','Completed','"\"k\""','[3,3,3,"unknown operation"]',NULL,1795954392450572,1795954392473508,NULL,NULL,NULL);
INSERT INTO "instances" VALUES(7,'failed','373c933c75474b67bb13e86e93a63e2a','fails','','Failed',NULL,'Orchestrator function ''fails'' failed: Activity function ''fail'' failed:  ValueError: no luck 
 {"ClassName":"Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException","Message":"Result: Failure\nException: ValueError: no luck"}',NULL,1795954392538842,1795954392543690,NULL,NULL,NULL);
INSERT INTO "instances" VALUES(8,'holds','d939c1821d3640babd18e2f12772c428','holds','','Failed','"{\"began\": \"/nowhere/x\", \"release\": \"/\"}"','Orchestrator function ''holds'' failed: Activity function ''wait_for_file'' failed:  FileNotFoundError: [Errno 2] No such file or directory: ''/nowhere/x'' 
 {"ClassName":"Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException","Message":"Result: Failure\nException: FileNotFoundError: [Errno 2] No such file or directory: ''/nowhere/x''"}',NULL,1795954392627056,1795954392637500,NULL,NULL,NULL);
INSERT INTO "instances" VALUES(9,'suspended','450394fbfdc44c148d10514bafc04c01','two_events','','Suspended',NULL,NULL,NULL,1795954392714748,1795954393060088,NULL,NULL,NULL);
INSERT INTO "instances" VALUES(10,'collects','baf35a6d9b314b4aabfb5f38429507d6','collects','','Running','"[\"a\", \"b\"]"',NULL,NULL,1795954392406568,1795954393069803,NULL,NULL,NULL);
CREATE TABLE messages (
  seq INTEGER PRIMARY KEY,
  instance_id TEXT NOT NULL,
  kind INTEGER NOT NULL,
  event TEXT NOT NULL,
  execution_id TEXT NOT NULL,
  task_id INTEGER NOT NULL,
  event_type INTEGER NOT NULL,
  text TEXT NOT NULL
);
INSERT INTO "messages" VALUES(22,'suspended',2,'{"EventType":15,"EventId":-1,"IsPlayed":true,"Timestamp":"2026-11-29T12:13:13.061198Z","Name":"One","Input":"\"1\""}','',-1,17,'');
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (
  gen INTEGER NOT NULL,
  task_id INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  instance_id TEXT NOT NULL,
  execution_id TEXT NOT NULL,
  name TEXT NOT NULL,
  input TEXT NOT NULL,
  fire_at_us INTEGER NOT NULL,
  PRIMARY KEY (gen, task_id)
) WITHOUT ROWID;
INSERT INTO "tasks" VALUES(1,0,1,'approval','40555fa8d14144bfa8437f1dade80916','','',4921000000000000);
INSERT INTO "tasks" VALUES(4,1,1,'retried','6f049090820543218c6e255663e2b372','','',1795954395372422);
COMMIT;
PRAGMA user_version = 1;
