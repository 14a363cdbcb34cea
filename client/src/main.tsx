import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { browserWorld } from "./chat/browser.ts";
import { createChatClient } from "./chat/chat.ts";
import { App } from "./view/App.tsx";
import { roomInAddress } from "./view/address.ts";
import { showTheme } from "./view/profile/theme.ts";
import { ChatContext } from "./view/useChat.ts";
import "./view/tokens.css";
import "./view/base.css";

showTheme();
const chat = createChatClient(browserWorld());
chat.openRoom(roomInAddress());
addEventListener("hashchange", () => chat.openRoom(roomInAddress()));
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
