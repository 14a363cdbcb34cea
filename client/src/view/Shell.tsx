import type { Failure } from "@hubbub/server/protocol";
import { Suspense, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { cut } from "../chat/cut.ts";
import type { MessageChange, Outgoing } from "../chat/state/outgoing.ts";
import { firstRoom } from "../chat/state/rooms.ts";
import type { ChatState } from "../chat/state/state.ts";
import { isPassing, waitAfter, wordsOf } from "../chat/api.ts";
import { closeThread, forgetLink, goTo, redirectTo, useLink } from "./address.ts";
import { announce } from "./announce.tsx";
import { ConnectionBar } from "./connection/ConnectionBar.tsx";
import { Conversation } from "./conversation/Conversation.tsx";
import { listenForFiles } from "./files/incoming.ts";
import { isCommand, isComposing, isField, isTyping, listenForKeys } from "./keys.ts";
import { later, loadLater } from "./later.ts";
import { OverlayContext, useOverlays, type Overlay as Open, type Question } from "./overlays.ts";
import { People } from "./people/People.tsx";
import { Rooms } from "./rooms/Rooms.tsx";
import { listRooms } from "./rooms/titles.ts";
import { actOnce, goToRegion, keepFocus } from "./regions.ts";
import css from "./Shell.module.css";
import { useTabSign } from "./tabSign.ts";
import { classes } from "./ui/classes.ts";
import { Notices, StandingNotice, useNotice } from "./ui/Notices.tsx";
import { Pane } from "./ui/Pane.tsx";
import { toSaid } from "./useBlocks.ts";
import { useChat, useClient } from "./useChat.ts";
import { BESIDE, DESKTOP, PHONE, useMedia } from "./useMedia.ts";

const ThreadPane = later(async () => (await import("./conversation/ThreadPane.tsx")).ThreadPane);
const Overlay = later(async () => (await import("./Overlay.tsx")).Overlay);
const AskToNotify = later(async () => (await import("./notifications/AskToNotify.tsx")).AskToNotify);
const LATER_MS = 2_000;
/** A shorter wait for an overlay is not shown. */
const COMING_SHOWN_AFTER_MS = 500;

/** The app of a signed-in user: rooms, conversation, people, and overlays. */
export function Shell() {
  const [overlay, setOverlay] = useState<Open | null>(null);
  const overlays = useMemo(
    () => ({
      open: setOverlay,
      close: () => setOverlay(null),
      ask: (question: Question) =>
        new Promise<boolean>((answer) => setOverlay({ is: "question", ...question, answer })),
    }),
    [],
  );
  useEffect(() => () => void (overlay?.is === "question" && overlay.answer(false)), [overlay]);
  return (
    <Notices>
      <OverlayContext value={overlays}>
        <Panes />
        <Asked />
        <Over overlay={overlay} />
      </OverlayContext>
    </Notices>
  );
}

function Panes() {
  const { open } = useOverlays();
  const openRoom = useChat((state) => state.openRoom);
  // What fails to load without a connection fails for the page's life.
  const mayLoad = useChat((state) => state.rooms !== null && state.connection === "online");
  const first = useChat(firstRoom);
  const phone = useMedia(PHONE);
  const desktop = useMedia(DESKTOP);
  const wide = useMedia(BESIDE);
  const hasThread = useChat(
    ({ thread, rooms, openRoom: room }) => thread !== null && room !== null && rooms?.has(room) === true,
  );
  const [besides, setBesides] = useState(true);

  useInvite();
  useEffect(() => {
    if (!phone && first !== null && openRoom === null) redirectTo(first);
  }, [phone, first, openRoom]);

  useWelcome();
  useTabSign();
  useOutcomes();
  useFiles();
  useEffect(keepFocus, []);
  useEffect(actOnce, []);

  useEffect(() => {
    if (!mayLoad) return undefined;
    const timer = setTimeout(loadLater, LATER_MS);
    return () => clearTimeout(timer);
  }, [mayLoad]);

  const hasPeople = desktop && besides && openRoom !== null && !hasThread;
  return (
    <div
      className={classes(
        css.shell,
        hasPeople && css.beside,
        hasThread && (wide ? css.threaded : css.covered),
      )}
    >
      {openRoom !== null && (
        <a className={css.skip} href="#conversation" onClick={focusConversation}>
          Skip to the conversation
        </a>
      )}
      {phone && openRoom === null && (
        <Pane>
          <Rooms alone />
          <ConnectionBar />
        </Pane>
      )}
      {!phone && <Rooms />}
      {openRoom !== null && (
        <Conversation
          key={openRoom}
          roomId={openRoom}
          covered={hasThread && !wide}
          peopleShown={hasPeople}
          // There is no space for them beside a thread.
          onPeople={() => (desktop && !hasThread ? setBesides((shown) => !shown) : open({ is: "people" }))}
        />
      )}
      {openRoom !== null && hasThread && (
        <Suspense fallback={<aside className={css.coming} aria-busy="true" aria-label="Thread" />}>
          <ThreadPane key={openRoom} roomId={openRoom} covering={!wide} />
        </Suspense>
      )}
      {openRoom === null && !phone && <Pane aria-busy="true" />}
      {hasPeople && (
        <aside className={css.people} aria-label="People">
          <People />
        </aside>
      )}
    </div>
  );
}

/** Whether the user wants notifications: asked only where there was a reason for one. */
function Asked() {
  const wanted = useChat((state) => state.notificationsWanted);
  return <Suspense>{wanted && <AskToNotify />}</Suspense>;
}

/** The overlays, and the keys that work everywhere. */
function Over({ overlay }: { overlay: Open | null }) {
  const chat = useClient();
  const { open, close } = useOverlays();
  /** What was typed for an overlay that is still loading. */
  const typed = useRef("");
  const takeTyped = useCallback(() => {
    const text = typed.current;
    typed.current = "";
    return text;
  }, []);

  useEffect(() => {
    if (overlay === null) {
      typed.current = "";
      return undefined;
    }
    // The field that still has the focus would send what it has, or lose it.
    function hold(event: KeyboardEvent) {
      const { key } = event;
      if ((key !== "Enter" && key !== "Backspace") || isComposing(event)) return;
      if (document.querySelector("dialog[open]") !== null) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      if (key === "Backspace") typed.current = typed.current.replace(/.$/su, "");
    }
    addEventListener("keydown", hold, true);
    return () => removeEventListener("keydown", hold, true);
  }, [overlay]);

  useEffect(() => {
    function onKeyDown(event: KeyboardEvent) {
      const covered = document.querySelector("dialog[open]") !== null;
      if (isCommand(event, "k")) {
        event.preventDefault();
        if (overlay?.is === "switch") close();
        else if (!covered) open({ is: "switch" });
        return;
      }
      // A second time it is the browser's own search in the page.
      if (isCommand(event, "f")) {
        if (covered || overlay !== null) return;
        event.preventDefault();
        open({ is: "search" });
        return;
      }
      if (isCommand(event, "m") && event.shiftKey) {
        event.preventDefault();
        if (overlay?.is === "mentions") close();
        else if (!covered) open({ is: "mentions" });
        return;
      }
      if (asksForKeys(event)) {
        event.preventDefault();
        if (overlay?.is === "keys") close();
        else if (!covered) open({ is: "keys" });
        return;
      }
      if (covered) return;
      if (event.key === "F6" && !event.ctrlKey && !event.altKey && !event.metaKey) {
        event.preventDefault();
        goToRegion(event.shiftKey ? -1 : 1);
        return;
      }
      if (overlay !== null && event.key === "Escape") {
        close();
        return;
      }
      if (overlay !== null && (isTyping(event) || event.key === " ")) {
        // Two units may be an emoji; longer texts are names of keys.
        if (event.key.length > 2 || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        typed.current += event.key;
        return;
      }
      if (event.key === "Escape" && !event.defaultPrevented && chat.snapshot().thread !== null) {
        event.preventDefault();
        closeThread();
        return;
      }
      if (isTyping(event) && !isField(event.target)) {
        const pane = document.querySelector("[data-part=thread-pane]");
        const isThere = pane?.contains(document.activeElement) || document.querySelector("main[inert]");
        document.getElementById(isThere ? "thread-composer" : "composer")?.focus();
        return;
      }
      const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
      if (!event.altKey || event.ctrlKey || event.metaKey || step === 0) return;
      event.preventDefault();
      const state = chat.snapshot();
      const { favourites, named, direct } = listRooms(state.rooms, state.openRoom);
      const ids = [...favourites, ...named, ...direct].map((room) => room.id);
      const at = ids.indexOf(state.openRoom ?? "");
      const next = ids[(at + step + ids.length) % ids.length];
      if (next !== undefined) goTo(next);
    }
    return listenForKeys(onKeyDown);
  }, [chat, overlay, open, close]);

  return (
    <Suspense fallback={<Coming />}>
      {overlay !== null && <Overlay overlay={overlay} takeTyped={takeTyped} coming={<Coming />} />}
    </Suspense>
  );
}

/** Says that an overlay is still loading. */
function Coming() {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), COMING_SHOWN_AFTER_MS);
    return () => clearTimeout(timer);
  }, []);
  return shown && <StandingNotice text="Loading…" />;
}

/** Tells the first person of an empty server that it is theirs. */
function useWelcome() {
  const tell = useNotice();
  const owns = useChat(
    ({ session }) => session.is === "signed in" && session.isNew && session.user.role === "owner",
  );
  useEffect(() => {
    if (owns)
      tell(
        "You own this server, because yours is its first account. Administration is beside your name, below the rooms.",
      );
  }, [owns, tell]);
}

/** Joins the room of an invite link. Without an answer it tries until there is one. */
function useInvite() {
  const chat = useClient();
  const tell = useNotice();
  const link = useLink();
  useEffect(() => {
    if (link?.is !== "invite") return undefined;
    const used = link;
    let again: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    async function accept(told: boolean) {
      try {
        const roomId = await chat.acceptInvite(used.code);
        forgetLink(used);
        goTo(roomId);
      } catch (error) {
        if (over) return;
        if (!told || !isPassing(error)) tell(wordsOf(error));
        if (!isPassing(error)) forgetLink(used);
        else again = setTimeout(() => void accept(true), waitAfter(error));
      }
    }
    void accept(false);
    return () => {
      over = true;
      clearTimeout(again);
    };
  }, [chat, tell, link]);
}

/** Takes files that are dropped or pasted. */
function useFiles() {
  const tell = useNotice();
  useEffect(() => listenForFiles(tell), [tell]);
}

/**
 * Tells screen readers what becomes of one's own messages, and of changes of messages, while the page is open: stored,
 * waiting for the connection, or failed.
 */
function useOutcomes() {
  const chat = useClient();
  useEffect(() => {
    const since = Date.now();
    // The page is updated every 50 ms at most: what is stored sooner was never shown on its way.
    return chat.onChange((before, now) => {
      if (now.outgoing !== before.outgoing || now.changing !== before.changing)
        tellOutcomes(before, now, since);
    });
  }, [chat]);
}

/** What was there before `since` is not news. */
function tellOutcomes(before: ChatState, now: ChatState, since: number) {
  // At the end of the session they are gone without an outcome.
  if (now.session !== before.session) return;
  const known = new Map([...before.outgoing, ...before.changing].map((entry) => [entry.nonce, entry]));
  for (const entry of [...now.outgoing, ...now.changing]) {
    const was = known.get(entry.nonce)?.state;
    const isNew = was === undefined && entry.created >= since;
    if (entry.state !== "sent") known.delete(entry.nonce);
    if (entry.state === "failed") {
      // A message that is refused at once was never shown on its way.
      if (was !== "failed" && (was !== undefined || isNew)) announce(whyFailed(entry, entry.failure));
    } else if (isNew && now.connection === "offline" && entry.change?.do !== "delete")
      announce("Waits for the connection.");
  }
  for (const { state, change } of known.values()) {
    const words = change === undefined ? "Sent." : wordsOfChange(change);
    if ((state === "sending" || state === "unconfirmed") && words !== null) announce(words);
  }
}

function whyFailed(entry: Outgoing, { message }: Failure): string {
  return entry.change === undefined
    ? `Not sent: ${cut(toSaid(entry), 200)}. ${message}`
    : `Not done. ${message}`;
}

/** That a change is made; null if that was said at once. */
function wordsOfChange(change: MessageChange): string | null {
  switch (change.do) {
    case "edit":
      return "Edit saved.";
    case "react":
      return `${change.emoji} ${change.on ? "added" : "removed"}.`;
    case "pin":
      return change.on ? "Pinned to the room." : "Unpinned.";
    case "delete":
      return null;
    default:
      return change satisfies never;
  }
}

/** In a field `?` is a character; with Ctrl or Cmd its neighbour key means the same everywhere. */
function asksForKeys(event: KeyboardEvent): boolean {
  if ((event.ctrlKey || event.metaKey) && !event.altKey) return event.key === "/";
  return event.key === "?" && !event.altKey && !isComposing(event) && !isField(event.target);
}

function focusConversation(event: { preventDefault: () => void }) {
  event.preventDefault();
  (document.getElementById("composer") ?? document.getElementById("conversation"))?.focus();
}
