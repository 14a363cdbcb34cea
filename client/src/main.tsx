import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { browserWorld } from "./chat/browser.ts";
import { createChatClient } from "./chat/chat.ts";
import { App } from "./view/App.tsx";
import { goTo, noteLink, placeInAddress, type Place } from "./view/address.ts";
import { showTheme } from "./view/profile/theme.ts";
import { toSaid } from "./view/useBlocks.ts";
import { ChatContext } from "./view/useChat.ts";
import "./view/tokens.css";
import "./view/base.css";

showTheme();
const chat = createChatClient(browserWorld((roomId) => goTo(roomId), toSaid));
let shown: (Place & { hash: string }) | null = null;
function show(event?: HashChangeEvent) {
  noteLink();
  // The browser tells once more of an address that this page has gone to.
  const { hash } = location;
  if (event?.isTrusted && hash === shown?.hash) return;
  const place = placeInAddress();
  const { roomId, seq, thread } = place;
  const moves = hash === shown?.hash || roomId !== shown?.roomId || seq !== shown.seq;
  shown = { ...place, hash };
  // A thread that is opened or closed beside it leaves the room where it is.
  if (moves) chat.openRoom(roomId, seq);
  if (roomId !== null) chat.openThread(roomId, thread);
}
show();
addEventListener("hashchange", show);
void chat.start();

const place = document.getElementById("app");
if (place === null) throw new Error("index.html has no #app");
createRoot(place).render(
  <StrictMode>
    <ChatContext value={chat}>
      <App />
    </ChatContext>
  </StrictMode>,
);
