import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { browserWorld } from "./chat/browser.ts";
import { createChatClient } from "./chat/chat.ts";
import { App } from "./view/App.tsx";
import { goTo, placeInAddress } from "./view/address.ts";
import { showTheme } from "./view/profile/theme.ts";
import { ChatContext } from "./view/useChat.ts";
import "./view/tokens.css";
import "./view/base.css";

showTheme();
const chat = createChatClient(browserWorld((roomId) => goTo(roomId)));
let shown = "";
function show(event?: HashChangeEvent) {
  // The browser tells once more of an address that this page has gone to.
  if (event?.isTrusted && location.hash === shown) return;
  shown = location.hash;
  const { roomId, seq } = placeInAddress();
  chat.openRoom(roomId, seq);
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
