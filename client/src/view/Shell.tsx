import { GENERAL, privateRoomId, type RoomId, type UserId } from "@hubbub/server/protocol";
import { Suspense, useEffect, useRef, useState } from "react";
import { wordsOf } from "../chat/api.ts";
import { unreadOf } from "../chat/state/room.ts";
import type { ChatState } from "../chat/state/state.ts";
import { goTo, redirectTo } from "./address.ts";
import { announce } from "./announce.tsx";
import { BrowseRooms } from "./rooms/BrowseRooms.tsx";
import { ConnectionBar } from "./connection/ConnectionBar.tsx";
import { Conversation } from "./conversation/Conversation.tsx";
import { Dialog } from "./ui/Dialog.tsx";
import { isTyping } from "./keys.ts";
import { later, loadLater } from "./later.ts";
import { NewRoom } from "./rooms/NewRoom.tsx";
import { People } from "./people/People.tsx";
import { QuickSwitcher } from "./switcher/QuickSwitcher.tsx";
import { Rooms, type Overlay } from "./rooms/Rooms.tsx";
import { orderRooms, titleOf } from "./rooms/titles.ts";
import { useChat, useClient, useMe } from "./useChat.ts";
import { DESKTOP, PHONE, useMedia } from "./useMedia.ts";

/** Where one types on opening it, an overlay is there at once; this one may come a moment later. */
const PersonCard = later(async () => (await import("./people/PersonCard.tsx")).PersonCard);
const LATER_MS = 2_000;

const NO_FILES = "Pictures and other files cannot be sent yet.";

/** The app of somebody who is signed in: rooms, conversation, people, and what lies over them. */
export function Shell() {
  const chat = useClient();
  const me = useMe();
  const openRoom = useChat((state) => state.openRoom);
  const hasRooms = useChat((state) => state.rooms !== null);
  const unread = useChat(countUnread);
  const title = useChat((state) => openTitle(state, me.id));
  const phone = useMedia(PHONE);
  const desktop = useMedia(DESKTOP);
  const [overlay, setOverlay] = useState<Overlay>(null);
  const [asked, setAsked] = useState<UserId | null>(null);
  const [besides, setBesides] = useState(true);
  const [notice, setNotice] = useState<string | null>(null);

  useEffect(() => {
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${title === null ? "" : `${title} - `}Hubbub`;
  }, [unread, title]);

  useEffect(() => {
    if (!phone && hasRooms && openRoom === null) redirectTo(GENERAL);
  }, [phone, hasRooms, openRoom]);

  const isOver = asked !== null;

  useFailures();

  useEffect(() => {
    if (!hasRooms) return undefined;
    const timer = setTimeout(loadLater, LATER_MS);
    return () => clearTimeout(timer);
  }, [hasRooms]);

  useEffect(() => {
    if (notice === null) return undefined;
    const timer = setTimeout(() => setNotice(null), 6_000);
    return () => clearTimeout(timer);
  }, [notice]);

  useEffect(() => {
    function onKeyDown(event: KeyboardEvent) {
      const covered = document.querySelector("dialog[open]") !== null;
      if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setOverlay((now) => (now === "switch" ? null : covered ? now : "switch"));
        return;
      }
      if (covered) return;
      if (event.key === "Escape" && isOver) {
        setAsked(null);
        return;
      }
      // What is typed is for the overlay that is about to come.
      if (isTyping(event) && isOver && !isField(event.target)) return;
      if (isTyping(event) && !isField(event.target)) {
        document.getElementById("composer")?.focus();
        return;
      }
      const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
      if (!event.altKey || event.ctrlKey || event.metaKey || step === 0) return;
      event.preventDefault();
      const state = chat.snapshot();
      const ids = orderRooms(state.rooms).map((room) => room.id);
      const at = ids.indexOf(state.openRoom ?? "");
      const next = ids[(at + step + ids.length) % ids.length];
      if (next !== undefined) goTo(next);
    }
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, [chat, isOver]);

  useEffect(() => {
    function onPaste({ clipboardData }: ClipboardEvent) {
      const { files, types } = clipboardData ?? {};
      // A program may offer a picture of the text that it gives as well.
      if (files !== undefined && files.length > 0 && !types?.includes("text/plain")) setNotice(NO_FILES);
    }
    function onDrag(event: DragEvent) {
      // Else the browser would leave the page for the file.
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      if (event.type === "drop") setNotice(NO_FILES);
    }
    addEventListener("paste", onPaste);
    addEventListener("dragover", onDrag);
    addEventListener("drop", onDrag);
    return () => {
      removeEventListener("paste", onPaste);
      removeEventListener("dragover", onDrag);
      removeEventListener("drop", onDrag);
    };
  }, []);

  function closeOverlay() {
    setOverlay(null);
  }

  function talkTo(userId: string) {
    closeOverlay();
    if (userId === me.id) return;
    const roomId = privateRoomId(me.id, userId);
    if (chat.snapshot().rooms?.has(roomId)) goTo(roomId);
    else chat.startPrivateRoom(userId).then(goTo, (error: unknown) => setNotice(wordsOf(error)));
  }

  function joinRoom(roomId: RoomId) {
    closeOverlay();
    chat.joinRoom(roomId).then(
      () => goTo(roomId),
      (error: unknown) => setNotice(wordsOf(error)),
    );
  }

  function enterRoom(roomId: RoomId) {
    closeOverlay();
    goTo(roomId);
  }

  const besideConversation = desktop && besides && openRoom !== null;
  return (
    <div
      className={`shell ${openRoom === null ? "shell-list" : "shell-room"} ${besideConversation ? "shell-people" : ""}`}
    >
      {openRoom !== null && (
        <a className="skip" href="#conversation" onClick={focusConversation}>
          Skip to the conversation
        </a>
      )}
      {phone && openRoom === null && (
        <main className="pane">
          <Rooms alone onOverlay={setOverlay} onNotice={setNotice} />
          <ConnectionBar />
        </main>
      )}
      {!phone && <Rooms onOverlay={setOverlay} onNotice={setNotice} />}
      {openRoom !== null && (
        <Conversation
          key={openRoom}
          roomId={openRoom}
          peopleShown={besideConversation}
          onPeople={() => (desktop ? setBesides((shown) => !shown) : setOverlay("people"))}
          onBrowse={() => setOverlay("browse")}
          onPerson={setAsked}
          onNotice={setNotice}
        />
      )}
      {openRoom === null && !phone && <main className="pane" aria-busy="true" />}
      {besideConversation && (
        <aside className="people" aria-label="People">
          <People onTalkTo={talkTo} />
        </aside>
      )}
      {overlay === "people" && (
        <Dialog title="People" className="drawer" onClose={closeOverlay}>
          <People onTalkTo={talkTo} />
        </Dialog>
      )}
      {overlay === "switch" && (
        <QuickSwitcher onClose={closeOverlay} onRoom={enterRoom} onJoin={joinRoom} onPerson={talkTo} />
      )}
      {overlay === "new room" && <NewRoom onClose={closeOverlay} onCreated={enterRoom} />}
      {overlay === "browse" && (
        <BrowseRooms onClose={closeOverlay} onEnter={enterRoom} onNew={() => setOverlay("new room")} />
      )}
      <Suspense>
        {asked !== null && (
          <PersonCard
            userId={asked}
            onClose={() => setAsked(null)}
            onTalkTo={(userId) => {
              setAsked(null);
              talkTo(userId);
            }}
          />
        )}
      </Suspense>
      <p className="notice" role="alert">
        {notice}
      </p>
    </div>
  );
}

/** Tells those who cannot see it of each message that fails while the page is there. */
function useFailures() {
  const outgoing = useChat((state) => state.outgoing);
  const before = useRef(outgoing);
  const [since] = useState(() => Date.now());
  useEffect(() => {
    const known = new Map(before.current.map((entry) => [entry.nonce, entry.state]));
    before.current = outgoing;
    for (const entry of outgoing) {
      if (entry.state !== "failed" || known.get(entry.nonce) === "failed") continue;
      // One that is refused at once was never seen on its way; one that failed before the page was there is no news.
      if (known.has(entry.nonce) || entry.created >= since)
        announce(`Not sent: ${entry.message.slice(0, 200)}. ${entry.failure.message}`);
    }
  }, [outgoing, since]);
}

function isField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

function focusConversation(event: { preventDefault: () => void }) {
  event.preventDefault();
  (document.getElementById("composer") ?? document.getElementById("conversation"))?.focus();
}

function countUnread(state: ChatState): number {
  let unread = 0;
  for (const room of state.rooms?.values() ?? []) unread += unreadOf(room);
  return unread;
}

function openTitle(state: ChatState, me: string): string | null {
  const room = state.openRoom === null ? undefined : state.rooms?.get(state.openRoom);
  return room === undefined ? null : titleOf(room, me);
}
