// assistant-ui as its documentation shows it; only the URL is Parley's.
import {
  AssistantRuntimeProvider,
  ComposerPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
  type ToolCallMessagePartProps,
} from "@assistant-ui/react";
import { AssistantChatTransport, useChatRuntime } from "@assistant-ui/react-ai-sdk";
import { lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import { createRoot } from "react-dom/client";

const transport = new AssistantChatTransport({ api: "/api/v1/ai-sdk/chat?version=7" });

function Tool({ toolName, args, approval, result, respondToApproval }: ToolCallMessagePartProps) {
  return (
    <section aria-label={`Tool call ${toolName}`}>
      {JSON.stringify(args)} {result !== undefined && "has a result"}
      {approval !== undefined && approval.approved === undefined && (
        <button onClick={() => void respondToApproval({ approved: true })}>Approve</button>
      )}
    </section>
  );
}

function Message() {
  return (
    <MessagePrimitive.Root>
      <MessagePrimitive.Parts components={{ tools: { Fallback: Tool } }} />
    </MessagePrimitive.Root>
  );
}

function App() {
  const runtime = useChatRuntime({
    transport,
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Messages components={{ Message }} />
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input aria-label="Message" />
          <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

createRoot(document.getElementById("root")!).render(<App />);
