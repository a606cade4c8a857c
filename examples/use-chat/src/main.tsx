import { createRoot } from "react-dom/client";
import { Chat } from "./chat";
import { stored } from "./parley";
import "./style.css";

const place = new URL(location.href);
const id = place.searchParams.get("chat") ?? crypto.randomUUID();
place.searchParams.set("chat", id);
history.replaceState(null, "", place);

const initial = await stored(id);
createRoot(document.getElementById("root")!).render(<Chat id={id} initial={initial} />);
