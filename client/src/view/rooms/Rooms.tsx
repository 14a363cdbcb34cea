import { GENERAL, isBlank, type RoomId } from "@hubbub/server/protocol";
import { memo, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { wordsOf } from "../../chat/api.ts";
import { isConnected } from "../../chat/state/connection.ts";
import type { Outgoing } from "../../chat/state/outgoing.ts";
import { isOnline } from "../../chat/state/people.ts";
import { unreadOf, type RoomState } from "../../chat/state/room.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import { addressOf, follow } from "../address.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { Icon } from "../ui/Icon.tsx";
import { orderRooms, titleOf } from "./titles.ts";
import { chosenTheme, showTheme, THEMES, type Theme } from "../profile/theme.ts";
import { showWhen, useClock } from "../time.ts";
import { useChat, useClient, useMe } from "../useChat.ts";
import { Wordmark } from "../ui/Wordmark.tsx";

const isMac = /Mac|iP(hone|ad)/.test(navigator.userAgent);

/** What may lie over the rooms and the conversation. */
export type Overlay = "new room" | "browse" | "switch" | "people" | null;

type Props = { alone?: boolean; onOverlay: (overlay: Overlay) => void; onNotice: (notice: string) => void };

/** The rooms of this user. `alone`: there is no conversation beside them. */
export function Rooms({ alone, onOverlay, onNotice }: Props) {
  const rooms = useChat((state) => state.rooms);
  const ordered = useMemo(() => orderRooms(rooms), [rooms]);
  const list = useRef<HTMLDivElement>(null);
  const openRoom = useChat((state) => state.openRoom);
  const hasRooms = rooms !== null;
  useEffect(() => {
    if (openRoom === null || !hasRooms) return;
    list.current
      ?.querySelector(`[data-room="${CSS.escape(openRoom)}"]`)
      ?.scrollIntoView({ block: "nearest" });
  }, [openRoom, hasRooms]);
  const [{ above, below }, setOut] = useState<OutOfSight>({ above: 0, below: 0 });
  useEffect(() => (list.current === null ? undefined : watchUnread(list.current, setOut)), []);

  /** Brings the nearest unread room into sight. */
  function show(where: "above" | "below") {
    if (list.current === null) return;
    const out = findUnread(list.current);
    const row = where === "above" ? out.above.at(-1) : out.below[0];
    row?.scrollIntoView({ block: "center" });
    row?.focus({ preventScroll: true });
  }

  return (
    <nav className="rooms" aria-label="Rooms">
      <header className="rooms-head">
        {alone ? (
          <h1>
            <Wordmark />
          </h1>
        ) : (
          <Wordmark />
        )}
      </header>
      <button type="button" className="jump" onClick={() => onOverlay("switch")}>
        <Icon name="search" />
        <span>Jump to…</span>
        <kbd>{isMac ? "⌘K" : "Ctrl K"}</kbd>
      </button>
      <div className="rooms-list" ref={list}>
        {above > 0 && (
          <button type="button" className="unread-hint unread-above" onClick={() => show("above")}>
            <Icon name="up" /> {above === 1 ? "1 unread room" : `${above} unread rooms`}
          </button>
        )}
        <Section
          title="Rooms"
          rooms={rooms === null ? null : ordered.filter((room) => !room.private)}
          actions={
            <>
              <button
                type="button"
                className="icon-button"
                aria-label="Browse rooms"
                title="Browse rooms"
                onClick={() => onOverlay("browse")}
              >
                <Icon name="compass" />
              </button>
              <button
                type="button"
                className="icon-button"
                aria-label="New room"
                title="New room"
                onClick={() => onOverlay("new room")}
              >
                <Icon name="plus" />
              </button>
            </>
          }
        />
        <Section
          title="Direct messages"
          rooms={rooms === null ? null : ordered.filter((room) => room.private)}
          empty="Pick somebody from People to talk in private."
          actions={
            <button
              type="button"
              className="icon-button"
              aria-label="New direct message"
              title="New direct message"
              onClick={() => onOverlay("people")}
            >
              <Icon name="plus" />
            </button>
          }
        />
        <Unsent />
        {below > 0 && (
          <button type="button" className="unread-hint unread-below" onClick={() => show("below")}>
            <Icon name="down" /> {below === 1 ? "1 unread room" : `${below} unread rooms`}
          </button>
        )}
      </div>
      <Profile onNotice={onNotice} />
    </nav>
  );
}

type OutOfSight = { above: number; below: number };

/** Tells how many unread rooms are above and below what is in sight of the list, whenever that changes. */
function watchUnread(list: HTMLElement, told: (out: OutOfSight) => void): () => void {
  let frame = 0;
  let last = "0 0";
  function look() {
    frame = 0;
    const { above, below } = findUnread(list);
    if (`${above.length} ${below.length}` === last) return;
    last = `${above.length} ${below.length}`;
    told({ above: above.length, below: below.length });
  }
  const soon = () => (frame ||= requestAnimationFrame(look));
  const resized = new ResizeObserver(soon);
  resized.observe(list);
  const changed = new MutationObserver(soon);
  changed.observe(list, { subtree: true, childList: true, attributeFilter: ["class"] });
  list.addEventListener("scroll", soon, { passive: true });
  soon();
  return () => {
    cancelAnimationFrame(frame);
    resized.disconnect();
    changed.disconnect();
    list.removeEventListener("scroll", soon);
  };
}

function findUnread(list: HTMLElement) {
  const above: HTMLElement[] = [];
  const below: HTMLElement[] = [];
  const view = list.getBoundingClientRect();
  for (const row of list.querySelectorAll<HTMLElement>(".room-unread")) {
    const box = row.getBoundingClientRect();
    const middle = (box.top + box.bottom) / 2;
    if (middle < view.top) above.push(row);
    else if (middle > view.bottom) below.push(row);
  }
  return { above, below };
}

type SectionProps = { title: string; rooms: RoomState[] | null; empty?: string; actions: ReactNode };

function Section({ title, rooms, empty, actions }: SectionProps) {
  return (
    <section className="rooms-section">
      <header>
        <h2>{title}</h2>
        {actions}
      </header>
      {rooms === null ? (
        <div className="skeleton-rooms" aria-hidden="true">
          <span />
          <span />
          <span />
        </div>
      ) : (
        <ul>
          {rooms.map((room) => (
            <RoomRow key={room.id} room={room} />
          ))}
        </ul>
      )}
      {rooms?.length === 0 && empty !== undefined && <p className="rooms-empty">{empty}</p>}
    </section>
  );
}

const RoomRow = memo(function RoomRow({ room }: { room: RoomState }) {
  useClock();
  const me = useMe();
  const isOpen = useChat((state) => state.openRoom === room.id);
  const draft = useChat((state) => !isOpen && state.drafts.has(room.id));
  const failed = useChat((state) =>
    state.outgoing.some((entry) => entry.roomId === room.id && entry.state === "failed"),
  );
  const partnerId = partnerOf(room.id, me.id);
  const online = useChat((state) => isOnline(state, partnerId));
  const unread = unreadOf(room);
  const title = titleOf(room, me.id);
  return (
    <li>
      <a
        className={`room ${unread > 0 ? "room-unread" : ""}`}
        href={addressOf(room.id)}
        onClick={follow}
        aria-current={isOpen ? "page" : undefined}
        data-room={room.id}
      >
        <RoomSign roomId={room.id} partnerId={partnerId} title={title} online={online} />
        <span className="room-what">
          <span className="room-name">{title}</span>
          <span className="room-last">
            {failed ? (
              <>
                <Icon name="warning" /> Not sent
              </>
            ) : draft ? (
              <>
                <Icon name="edit" /> Draft
              </>
            ) : (
              <Preview room={room} />
            )}
          </span>
        </span>
        <span className="room-side">
          {room.last !== null && (
            <time dateTime={new Date(room.last.date).toISOString()}>{showWhen(room.last.date)}</time>
          )}
          {unread > 0 && (
            <span className="badge">
              {unread > 99 ? "99+" : unread}
              <span className="hidden"> unread</span>
            </span>
          )}
        </span>
        {online !== undefined && <span className="hidden">{online ? ", online" : ", offline"}</span>}
      </a>
    </li>
  );
});

/** Where messages lie that cannot be sent, for their rooms are not this user's any more. */
function Unsent() {
  const rooms = useChat((state) => state.rooms);
  const outgoing = useChat((state) => state.outgoing);
  const openRoom = useChat((state) => state.openRoom);
  const gone = new Map<RoomId, Outgoing>();
  for (const entry of outgoing) {
    if (entry.state !== "sent" && rooms !== null && !rooms.has(entry.roomId)) gone.set(entry.roomId, entry);
  }
  if (gone.size === 0) return null;
  return (
    <section className="rooms-section">
      <header>
        <h2>Not sent</h2>
      </header>
      <ul>
        {[...gone].map(([roomId, entry]) => (
          <li key={roomId}>
            <a
              className="room"
              href={addressOf(roomId)}
              onClick={follow}
              aria-current={openRoom === roomId ? "page" : undefined}
            >
              <RoomSign roomId={roomId} partnerId={null} title="" online={undefined} />
              <span className="room-what">
                <LeftRoomName roomId={roomId} />
                <span className="room-last">
                  <Icon name="warning" /> {entry.message.slice(0, 120)}
                </span>
              </span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function LeftRoomName({ roomId }: { roomId: RoomId }) {
  const chat = useClient();
  const [name, setName] = useState<string>();
  useEffect(() => {
    chat.roomName(roomId).then(setName, () => {});
  }, [chat, roomId]);
  return (
    <span className="room-name">{name === undefined ? "A room you left" : `A room you left: ${name}`}</span>
  );
}

type SignProps = { roomId: RoomId; partnerId: string | null; title: string; online: boolean | undefined };

function RoomSign({ roomId, partnerId, title, online }: SignProps) {
  if (partnerId !== null) return <Avatar userId={partnerId} name={title} online={online} />;
  return (
    <span className={roomId === GENERAL ? "sign sign-general" : "sign"} aria-hidden="true">
      <Icon name="hash" />
    </span>
  );
}

function Preview({ room }: { room: RoomState }) {
  const me = useMe();
  const from = useChat((state) =>
    room.last === null ? "" : (state.users.get(room.last.from)?.username ?? ""),
  );
  if (room.last === null) return room.private ? "No messages yet" : "Nobody has said anything yet";
  // One line is shown: no need to lay out the other 3,900 characters.
  const text = isBlank(room.last.message) ? "An empty message" : room.last.message.slice(0, 120);
  if (room.last.from === me.id) return `You: ${text}`;
  return room.private || from === "" ? text : `${from}: ${text}`;
}

const THEME_WORDS: Record<Theme, string> = {
  system: "Theme: as the system",
  light: "Theme: light",
  dark: "Theme: dark",
};
const THEME_ICONS = { system: "system", light: "sun", dark: "moon" } as const;

function Profile({ onNotice }: { onNotice: (notice: string) => void }) {
  const chat = useClient();
  const me = useMe();
  const online = useChat(isConnected);
  const connection = useChat((state) => state.connection);
  const waiting = useChat((state) => state.outgoing.filter((entry) => entry.state !== "sent").length);
  const [theme, setTheme] = useState(chosenTheme);
  const [asking, setAsking] = useState(false);

  function nextTheme() {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
    setTheme(next);
    showTheme(next);
  }

  function logOut() {
    setAsking(false);
    chat.logOut().catch((error: unknown) => onNotice(wordsOf(error)));
  }

  return (
    <footer className="profile">
      <Avatar userId={me.id} name={me.username} online={online} />
      <span className="profile-who">
        <span className="profile-name">{me.username}</span>
        <span className="profile-state">
          {online ? "Online" : connection === "offline" ? "Offline" : "Connecting…"}
        </span>
      </span>
      <button
        type="button"
        className="icon-button"
        aria-label={THEME_WORDS[theme]}
        title={THEME_WORDS[theme]}
        onClick={nextTheme}
      >
        <Icon name={THEME_ICONS[theme]} />
      </button>
      <button
        type="button"
        className="icon-button"
        aria-label="Log out"
        title="Log out"
        onClick={() => (waiting > 0 ? setAsking(true) : logOut())}
      >
        <Icon name="exit" />
      </button>
      {asking && (
        <Dialog title="Log out now?" onClose={() => setAsking(false)}>
          <p>
            {waiting === 1 ? "One message has" : `${waiting} messages have`} not been sent. Logging out throws{" "}
            {waiting === 1 ? "it" : "them"} away.
          </p>
          <div className="dialog-actions">
            <button type="button" className="button" onClick={() => setAsking(false)}>
              Stay
            </button>
            <button type="button" className="button button-danger" onClick={logOut}>
              Log out
            </button>
          </div>
        </Dialog>
      )}
    </footer>
  );
}
