import { isBlank, type Message, type RoomId } from "@hubbub/server/protocol";
import { memo, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { cut } from "../../chat/cut.ts";
import type { Outgoing } from "../../chat/state/outgoing.ts";
import { hasDraft } from "../../chat/state/drafts.ts";
import { isOnline, nameIn } from "../../chat/state/people.ts";
import { mentionsOf, unreadOf, type RoomState } from "../../chat/state/room.ts";
import { partnerOf } from "../../chat/state/rooms.ts";
import { addressOf, follow } from "../address.ts";
import { isMac } from "../keys.ts";
import { useOverlays } from "../overlays.ts";
import { Profile } from "../profile/Profile.tsx";
import { showWhen, useClock } from "../time.ts";
import { Badge, MentionBadge } from "../ui/Badge.tsx";
import { IconButton } from "../ui/Button.tsx";
import { classes } from "../ui/classes.ts";
import { Cut, CutLine } from "../ui/Cut.tsx";
import { Icon } from "../ui/Icon.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { SkeletonRows } from "../ui/Skeleton.tsx";
import { Wordmark } from "../ui/Wordmark.tsx";
import { useSaid } from "../useBlocks.ts";
import { useAsChanged, useChat, useClient, useMe } from "../useChat.ts";
import css from "./Rooms.module.css";
import { listRooms, titleOf } from "./titles.ts";

const LINE_MOST = 120;

/** This user's rooms. `alone`: no conversation is beside them. */
export function Rooms({ alone = false }: { alone?: boolean }) {
  const { open } = useOverlays();
  const rooms = useChat((state) => state.rooms);
  const openRoom = useChat((state) => state.openRoom);
  const { favourites, named, direct } = useMemo(() => listRooms(rooms, openRoom), [rooms, openRoom]);
  const list = useRef<HTMLDivElement>(null);
  const place = [...favourites, ...named, ...direct].findIndex(({ id }) => id === openRoom);
  // Also when other rooms move it out of sight.
  useEffect(() => {
    if (place < 0 || openRoom === null) return;
    list.current
      ?.querySelector(`[data-room="${CSS.escape(openRoom)}"]`)
      ?.scrollIntoView({ block: "nearest" });
  }, [openRoom, place]);
  const [{ above, below }, setOut] = useState<OutOfSight>({ above: 0, below: 0 });
  useEffect(() => (list.current === null ? undefined : watchUnread(list.current, setOut)), []);

  /** Scrolls to the nearest unread room. */
  function show(where: "above" | "below") {
    if (list.current === null) return;
    const out = findUnread(list.current);
    const row = where === "above" ? out.above.at(-1) : out.below[0];
    row?.scrollIntoView({ block: "center" });
    row?.focus({ preventScroll: true });
  }

  return (
    <nav className={classes(css.rooms, alone && css.alone)} aria-label="Rooms">
      <header className={css.head}>
        {alone ? (
          <h1>
            <Wordmark />
          </h1>
        ) : (
          <Wordmark />
        )}
        <IconButton icon="search" label="Search messages" onClick={() => open({ is: "search" })} />
      </header>
      <button type="button" className={css.jump} onClick={() => open({ is: "switch" })}>
        <Icon name="search" />
        <span>Jump to…</span>
        <kbd>{isMac ? "⌘K" : "Ctrl K"}</kbd>
      </button>
      <MentionsButton />
      <div className={css.list} ref={list}>
        {above > 0 && (
          <button type="button" className={classes(css.hint, css.above)} onClick={() => show("above")}>
            <Icon name="up" /> {above === 1 ? "1 unread room" : `${above} unread rooms`}
          </button>
        )}
        {favourites.length > 0 && <Section title="Favourites" rooms={favourites} />}
        <Section
          title="Rooms"
          rooms={rooms === null ? null : named}
          actions={
            <>
              <IconButton icon="compass" label="Browse rooms" onClick={() => open({ is: "browse" })} />
              <IconButton icon="plus" label="New room" onClick={() => open({ is: "new room" })} />
            </>
          }
        />
        <Section
          title="Direct messages"
          rooms={rooms === null ? null : direct}
          empty="Pick somebody from People to talk in private."
          actions={
            <IconButton icon="plus" label="New direct message" onClick={() => open({ is: "people" })} />
          }
        />
        <Unsent />
        {below > 0 && (
          <button type="button" className={classes(css.hint, css.below)} onClick={() => show("below")}>
            <Icon name="down" /> {below === 1 ? "1 unread room" : `${below} unread rooms`}
          </button>
        )}
      </div>
      <Profile />
    </nav>
  );
}

/** Opens this user's mentions, and shows how many are unread in all rooms. */
function MentionsButton() {
  const { open } = useOverlays();
  const count = useChat((state) => {
    let total = 0;
    for (const room of state.rooms?.values() ?? []) total += mentionsOf(room);
    return total;
  });
  return (
    <button type="button" className={css.mentions} onClick={() => open({ is: "mentions" })}>
      <Icon name="at" />
      <span>Mentions</span>
      {count > 0 && (
        <Badge count={count}>
          <span className="hidden"> unread</span>
        </Badge>
      )}
    </button>
  );
}

type OutOfSight = { above: number; below: number };

/** Reports how many unread rooms are above and below the visible part of the list, whenever that changes. */
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
  changed.observe(list, { subtree: true, childList: true, attributeFilter: ["data-unread"] });
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
  for (const row of list.querySelectorAll<HTMLElement>("[data-unread]")) {
    const box = row.getBoundingClientRect();
    const middle = (box.top + box.bottom) / 2;
    if (middle < view.top) above.push(row);
    else if (middle > view.bottom) below.push(row);
  }
  return { above, below };
}

type SectionProps = { title: string; rooms: RoomState[] | null; empty?: string; actions?: ReactNode };

function Section({ title, rooms, empty, actions }: SectionProps) {
  return (
    <section className={css.section}>
      <header>
        <h2>{title}</h2>
        {actions}
      </header>
      {rooms === null ? (
        <SkeletonRows />
      ) : (
        <ul>
          {rooms.map((room) => (
            <RoomRow key={room.id} room={room} />
          ))}
        </ul>
      )}
      {rooms?.length === 0 && empty !== undefined && <p className={css.empty}>{empty}</p>}
    </section>
  );
}

const RoomRow = memo(function RoomRow({ room }: { room: RoomState }) {
  useClock();
  const me = useMe();
  const isOpen = useChat((state) => state.openRoom === room.id);
  const draft = useChat((state) => !isOpen && hasDraft(state, room.id));
  const failed = useChat((state) =>
    state.outgoing.some((entry) => entry.roomId === room.id && entry.state === "failed"),
  );
  const partnerId = partnerOf(room, me.id);
  const online = useChat((state) => isOnline(state, partnerId));
  const unread = unreadOf(room);
  const mentions = mentionsOf(room);
  const muted = room.notify === "nothing";
  const title = useChat(({ users }) => titleOf(room, me.id, users));
  return (
    <li>
      <a
        className={css.room}
        href={addressOf(room.id)}
        onClick={follow}
        aria-current={isOpen ? "page" : undefined}
        data-room={room.id}
        data-unread={(unread > 0 && !muted) || undefined}
        data-muted={muted || undefined}
      >
        <RoomSign title={title} partnerId={partnerId} general={room.kind === "everyone"} online={online} />
        <span className={css.what}>
          <span data-part="name" className={css.name}>
            {title}
          </span>
          <span className={css.last}>
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
        <span className={css.side}>
          {room.last !== null && (
            <time dateTime={new Date(room.last.date).toISOString()}>{showWhen(room.last.date)}</time>
          )}
          {mentions > 0 && <MentionBadge count={mentions} />}
          {unread > 0 && (
            <Badge count={unread}>
              <span className="hidden"> unread</span>
            </Badge>
          )}
        </span>
        {muted && <span className="hidden">, muted</span>}
        {online !== undefined && <span className="hidden">{online ? ", online" : ", offline"}</span>}
      </a>
    </li>
  );
});

/** Messages that cannot be sent, because the user is no longer in their rooms. */
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
    <section className={css.section}>
      <header>
        <h2>Not sent</h2>
      </header>
      <ul>
        {[...gone].map(([roomId, entry]) => (
          <li key={roomId}>
            <a
              className={css.room}
              href={addressOf(roomId)}
              onClick={follow}
              aria-current={openRoom === roomId ? "page" : undefined}
            >
              <RoomSign title="" partnerId={null} />
              <span className={css.what}>
                <LeftRoomName roomId={roomId} />
                <span className={css.last}>
                  <Icon name="warning" /> <Line of={entry} />
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
    <span data-part="name" className={css.name}>
      A room you left{name !== undefined && ": "}
      <bdi>{name}</bdi>
    </span>
  );
}

function Preview({ room }: { room: RoomState }) {
  const me = useMe();
  const from = useChat((state) => nameIn(state.users, room.last?.from, ""));
  const asChanged = useAsChanged();
  if (room.last === null) return room.kind === "direct" ? "No messages yet" : "Nobody has said anything yet";
  const last = asChanged(room.last);
  if (last.deleted !== undefined) return "Message deleted";
  const who = room.last.from === me.id ? "You" : room.kind === "direct" ? "" : from;
  return (
    <CutLine>
      {who !== "" && (
        <>
          <Cut half>{who}</Cut>
          {": "}
        </>
      )}
      <Cut>
        <Line of={last} />
      </Cut>
    </CutLine>
  );
}

/** One line is shown: no need to lay out the other 3,900 characters. */
function Line({ of }: { of: Message | Outgoing }) {
  const plain = useSaid(of);
  return isBlank(plain) ? "An empty message" : cut(plain.trimStart(), LINE_MOST);
}
