import { useEffect } from "react";
import { countUnread } from "../chat/state/calls.ts";
import type { ChatState } from "../chat/state/state.ts";
import { titleOf } from "./rooms/titles.ts";
import { useChat } from "./useChat.ts";

const MOST = 99;

/** Shows unread messages in the title and icon of a tab that nobody looks at. */
export function useTabSign(): void {
  const all = useChat((state) => countUnread(state).all);
  const calls = useChat((state) => countUnread(state).calls);
  const title = useChat(openTitle);

  useEffect(() => {
    document.title = `${all > 0 ? `(${all}) ` : ""}${title === null ? "" : `${title} - `}Hubbub`;
  }, [all, title]);

  const sign = calls > 0 ? calls : all > 0 ? "dot" : null;
  useEffect(() => {
    showIcon(sign);
    return () => showIcon(null);
  }, [sign]);
}

function openTitle(state: ChatState): string | null {
  const room = state.openRoom === null ? undefined : state.rooms?.get(state.openRoom);
  return room === undefined || state.session.is !== "signed in"
    ? null
    : titleOf(room, state.session.user.id, state.users);
}

function showIcon(sign: number | "dot" | null) {
  const link = document.querySelector<HTMLLinkElement>("link[rel=icon]");
  if (link !== null) link.href = sign === null ? "/favicon.svg" : drawIcon(sign);
  const shown = typeof sign === "number" ? navigator.setAppBadge?.(sign) : navigator.clearAppBadge?.();
  shown?.catch(() => {});
}

/** favicon.svg with a number or a dot in its corner. */
function drawIcon(sign: number | "dot"): string {
  const text = sign === "dot" ? "" : sign > MOST ? `${MOST}+` : String(sign);
  const width = text === "" ? 13 : 13 + 6 * text.length;
  const [x, y, height] = text === "" ? [19, 0, 13] : [32 - width, 13, 19];
  const letters = `font-family="Arial, sans-serif" font-size="17" font-weight="700" text-anchor="middle"`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="9" fill="#12352b"/>
<g fill="none" stroke="#fbf7ee" stroke-width="4.2" stroke-linecap="round" stroke-linejoin="round">
<path d="M10.5 6.5v9.5M10.5 13v9.8l-2 3.2"/><circle cx="16.6" cy="18.2" r="6.1"/></g>
<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="${height / 2}" fill="#d43d2a" stroke="#fff" stroke-width="1.5"/>
<text x="${x + width / 2}" y="${y + 15.5}" fill="#fff" ${letters}>${text}</text>
</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
