import type { Failure, Message, UserId } from "@hubbub/server/protocol";
import { memo, Suspense, useEffect, useId, useMemo, useRef, useState, type ReactNode } from "react";
import { editSlot } from "../../chat/drafts.ts";
import type { ThreadLine } from "../../chat/state/folding.ts";
import { isMeant, isUnderWay, nextUpload, type Changing, type Outgoing } from "../../chat/state/outgoing.ts";
import { nameIn } from "../../chat/state/people.ts";
import { later } from "../later.ts";
import { useOverlays } from "../overlays.ts";
import { showClock, showFull, useClock } from "../time.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Button } from "../ui/Button.tsx";
import { classes } from "../ui/classes.ts";
import { Icon } from "../ui/Icon.tsx";
import { useCopy } from "../ui/useCopy.ts";
import { useChat, useClient, useDraft, useMe } from "../useChat.ts";
import css from "./Message.module.css";
import { beginEdit, EditField, EditMessage, isEditedIn, slotOf, type EditPlace } from "./EditMessage.tsx";
import { Quote } from "./Quote.tsx";
import { Reactions } from "./Reactions.tsx";
import { Text } from "./Text.tsx";
import { ThreadButton } from "./ThreadButton.tsx";
import { enterThread } from "./threadWays.ts";
import { useClosed, useSlow } from "./useClosed.ts";

/** A person's messages within this time of each other share a head. */
export const GROUP_MS = 5 * 60 * 1000;

type StoredProps = {
  message: Message;
  name: string;
  mine: boolean;
  /** It begins a group, and shows the sender. */
  first: boolean;
  /** It is this user's newest message, and shows that it was sent. */
  sent: boolean;
  onReply: (message: Message) => void;
  /** Shows another message of the room. */
  onJump: (seq: number) => void;
  /** The element with the focus goes away. */
  onDone: () => void;
  /** Where the row is: in the room's log, or in the thread beside it. */
  place?: EditPlace;
  /** The thread that this message begins. */
  thread?: ThreadLine | undefined;
};

const LONG_PRESS_MS = 450;
/** A finger that rests trembles by less than this, in pixels. */
const TREMBLE = 10;

const Files = later(async () => (await import("../files/Files.tsx")).Files);
const FilesToSend = later(async () => (await import("../files/Files.tsx")).FilesToSend);
const Uploading = later(async () => (await import("../files/Files.tsx")).Uploading);
const Actions = later(async () => (await import("./Actions.tsx")).Actions);
const ActionSheet = later(async () => (await import("./Actions.tsx")).ActionSheet);

export const StoredMessage = memo(function StoredMessage({
  message,
  name,
  mine,
  first,
  sent,
  onReply,
  onJump,
  onDone,
  place = "log",
  thread,
}: StoredProps) {
  const chat = useClient();
  const editing = useChat((state) => state.drafts.has(slotOf(message)) && isEditedIn(state, message, place));
  const refused = useChat((state) =>
    state.changing.find(
      (entry): entry is Changing & { state: "failed" } =>
        entry.state === "failed" && entry.roomId === message.roomId && isMeant(entry.change, message),
    ),
  );
  // Of hundreds of rows only the one with pointer or focus has its actions in the page.
  const [near, setNear] = useState(false);
  const [picking, setPicking] = useState(false);
  const [sheet, setSheet] = useState(false);
  const press = useRef<ReturnType<typeof setTimeout>>(undefined);
  const pressed = useRef({ x: 0, y: 0 });
  const acts = {
    message,
    onReply,
    onEdit: () => {
      setPicking(false);
      beginEdit(chat, message, place);
    },
    onThread: place === "log" ? () => enterThread(message.roomId, message.seq) : undefined,
  };
  const line = place === "log" && <ThreadButton roomId={message.roomId} root={message.seq} thread={thread} />;
  const files = message.files !== undefined && (
    <Suspense>
      <Files message={message} />
    </Suspense>
  );
  const release = () => clearTimeout(press.current);
  useEffect(() => () => clearTimeout(press.current), []);

  const refusal = refused !== undefined && (
    <span className={css.failed}>
      <span className={css.why}>
        <Icon name="warning" /> Not done. {whyNot(refused.failure, true)}
      </span>
      <Button look="link" icon="close" onClick={() => chat.discard(refused.nonce)}>
        Dismiss
      </Button>
    </span>
  );
  const id = useId();
  // Whoever comes to it by keys hears who said what, and when: not as its label, which what people write must not be.
  const spoken = { role: "article", "aria-describedby": `${id}who ${id}when ${id}what` };
  if (message.deleted !== undefined)
    return (
      <div {...spoken} className={css.stored} data-seq={message.seq} tabIndex={-1}>
        <Row id={id} from={message.from} name={name} date={message.date} mine={mine} first={first}>
          <span data-part="deleted" className={css.deleted}>
            Message deleted
          </span>
          {line}
          {refusal}
        </Row>
      </div>
    );
  return (
    // oxlint-disable-next-line jsx-a11y/no-static-element-interactions -- a short cut to what the bar within has as buttons
    <div
      {...spoken}
      className={css.stored}
      data-seq={message.seq}
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.target !== event.currentTarget || event.key !== "Enter") return;
        event.preventDefault();
        setSheet(true);
      }}
      onPointerEnter={(event) => {
        if (event.pointerType === "mouse") setNear(true);
      }}
      onPointerLeave={(event) => {
        // Rows move also under a mouse that lies still.
        if (!event.currentTarget.matches(":focus-visible, :has(:focus-visible)")) setNear(false);
        release();
      }}
      onFocus={(event) => {
        // Do not lead a user who only passes through names and links through the actions.
        if (event.target === event.currentTarget) setNear(true);
      }}
      onBlur={(event) => {
        if (event.currentTarget.contains(event.relatedTarget)) return;
        setNear(false);
        setPicking(false);
      }}
      onPointerDown={(event) => {
        release();
        if (event.pointerType !== "touch" || isHeld(event.target)) return;
        pressed.current = { x: event.clientX, y: event.clientY };
        press.current = setTimeout(() => setSheet(true), LONG_PRESS_MS);
      }}
      onPointerMove={({ clientX, clientY }) => {
        const { x, y } = pressed.current;
        if (Math.hypot(clientX - x, clientY - y) > TREMBLE) release();
      }}
      onPointerUp={release}
      onPointerCancel={release}
    >
      <Row id={id} from={message.from} name={name} date={message.date} mine={mine} first={first}>
        {message.replyTo !== undefined && (place === "log" || message.replyTo !== message.thread) && (
          <Quote roomId={message.roomId} seq={message.replyTo} onJump={onJump} onThread={acts.onThread} />
        )}
        {editing && mine ? (
          <>
            <EditMessage message={message} onDone={onDone} />
            {files}
          </>
        ) : (
          <>
            {message.message !== "" && <Said message={message} />}
            {files}
            {message.edited !== undefined && (
              <span className={css.mark} title={`Edited ${showFull(message.edited)}`}>
                (edited)
              </span>
            )}
            {message.pinned !== undefined && (
              <span className={css.mark} title="Pinned to the room">
                <Icon name="pin" />
                <span className="hidden">Pinned</span>
              </span>
            )}
            {sent && <SentMark />}
          </>
        )}
        <Reactions message={message} />
        {line}
        {refusal}
      </Row>
      <Suspense>
        {/* The reactions to choose from stay open while the row moves. */}
        {(near || picking) && !editing && <Actions {...acts} picking={picking} onPicking={setPicking} />}
        {sheet && <ActionSheet {...acts} onClose={() => setSheet(false)} />}
      </Suspense>
    </div>
  );
});

/** Whether a finger that rests here means something else: a place in a text, or in a recording. */
function isHeld(target: EventTarget): boolean {
  return target instanceof Element && target.closest("textarea, audio, video") !== null;
}

function Said({ message: said }: { message: Message }) {
  const { roomId, message, mentions = [], mentionsRoom } = said;
  const me = useMe();
  const isChanging = useChat(({ changing }) =>
    changing.some(
      ({ state, roomId: room, change }) =>
        state !== "failed" && room === roomId && isMeant(change, said) && change.do === "edit",
    ),
  );
  const names = useChat((state) =>
    [
      ...mentions.map((id) => state.users.get(id)?.username.toLowerCase() ?? ""),
      ...(mentionsRoom === true ? ["room"] : []),
    ].join(" "),
  );
  if (isChanging) return <Unsaid text={message} />;
  return <Text text={message} names={names} me={me.username} />;
}

/** A text on its way, shown as it will be once it is stored, so that nothing moves then. */
function Unsaid({ text }: { text: string }) {
  const me = useMe();
  const users = useChat((state) => state.users);
  const names = useMemo(() => {
    if (!text.includes("@")) return "";
    const lower = text.toLowerCase();
    const all = ["room", ...[...users.values()].map(({ username }) => username.toLowerCase())];
    return all.filter((name) => lower.includes(`@${name}`)).join(" ");
  }, [text, users]);
  return <Text text={text} names={names} me={me.username} />;
}

function SentMark() {
  return (
    <span className={css.mark} title="Sent">
      <Icon name="check" />
      <span className="hidden">Sent</span>
    </span>
  );
}

type OutgoingListProps = {
  entries: readonly Outgoing[];
  /** When this user sent the message above them, in ms since 1970. */
  before?: number | undefined;
  /** Without it the user cannot write, so there is nothing to try again. */
  onEdit?: (entry: Outgoing) => void;
  /** The element with the focus goes away. */
  onDone?: () => void;
};

/** The messages on their way to a room, as rows of a list. */
export function OutgoingMessages({ entries, before, onEdit, onDone }: OutgoingListProps) {
  const me = useMe();
  const name = useChat(({ users }) => nameIn(users, me.id));
  const online = useChat((state) => state.connection !== "offline");
  return entries.map((entry, index) => {
    const previous = entries[index - 1]?.created ?? before;
    return (
      <li key={entry.nonce} data-key={entry.nonce}>
        <OutgoingMessage
          entry={entry}
          me={me.id}
          name={name}
          first={previous === undefined || Math.abs(entry.created - previous) > GROUP_MS}
          online={online}
          onEdit={onEdit}
          onDone={onDone}
        />
      </li>
    );
  });
}

type OutgoingProps = {
  entry: Outgoing;
  me: UserId;
  name: string;
  first: boolean;
  online: boolean;
  onEdit: ((entry: Outgoing) => void) | undefined;
  onDone: (() => void) | undefined;
};

const OutgoingMessage = memo(function OutgoingMessage({
  entry,
  me,
  name,
  first,
  online,
  onEdit,
  onDone,
}: OutgoingProps) {
  const edited = useChat((state) => state.drafts.has(editSlot(entry.nonce)));
  const closed = useClosed(entry.roomId) !== null;
  const slow = useSlow(entry.roomId) !== null;
  const behind = useChat((state) => state.outgoing.some((other) => holdsUp(other, entry)));
  // Another tab, or this one before a reload, may have begun it: then the focus stays where it is.
  const [editing, setEditing] = useState<"here" | "elsewhere" | null>(null);
  if (edited && editing === null) setEditing("elsewhere");
  const failed = entry.state === "failed";
  return (
    <Row from={me} name={name} date={entry.created} mine first={first} outgoing={entry.state}>
      {failed && editing !== null && onEdit !== undefined ? (
        <EditFailed
          entry={entry}
          focus={editing === "here"}
          onClose={() => {
            setEditing(null);
            onDone?.();
          }}
        />
      ) : (
        entry.message !== "" && <Unsaid text={entry.message} />
      )}
      {entry.files !== undefined && (
        <Suspense>
          <FilesToSend entry={entry} />
        </Suspense>
      )}
      {failed ? (
        (editing === null || onEdit === undefined) && (
          <Failed
            entry={entry}
            onEdit={
              closed || onEdit === undefined
                ? undefined
                : () => {
                    setEditing("here");
                    onEdit(entry);
                  }
            }
            onDone={onDone}
          />
        )
      ) : entry.state === "sent" ? (
        <SentMark />
      ) : nextUpload(entry) !== undefined ? (
        <Suspense>
          <Uploading entry={entry} online={online} onDone={onDone} />
        </Suspense>
      ) : (
        <Progress state={entry.state} online={online} behind={behind} slow={slow} unkept={entry.unkept} />
      )}
    </Row>
  );
});

/** Whether files of the first are to be uploaded before the second may be sent. */
function holdsUp(first: Outgoing, second: Outgoing): boolean {
  const isBefore = first.roomId === second.roomId && first.created < second.created;
  return isBefore && isUnderWay(first) && nextUpload(first) !== undefined;
}

type FailedProps = Pick<OutgoingProps, "onEdit" | "onDone"> & { entry: Outgoing & { state: "failed" } };

function Failed({ entry, onEdit, onDone }: FailedProps) {
  const chat = useClient();
  const copy = useCopy();
  const inside = useChat((state) => state.rooms?.has(entry.roomId) === true);
  const mayBeGone = inside && entry.failure.code === "not_found" && entry.replyTo !== undefined;
  return (
    <span className={css.failed}>
      <span className={css.why}>
        <Icon name="warning" /> Not sent. {whyNot(entry.failure, inside)}
      </span>
      {onEdit !== undefined ? (
        <>
          <Button
            look="link"
            icon="retry"
            onClick={() => {
              chat.retry(entry.nonce);
              onDone?.();
            }}
          >
            Retry
          </Button>
          {mayBeGone && (
            <Button
              look="link"
              icon="send"
              onClick={() => {
                chat.retry(entry.nonce, true);
                onDone?.();
              }}
            >
              Send as no reply
            </Button>
          )}
          <Button look="link" icon="edit" onClick={() => onEdit(entry)}>
            Edit
          </Button>
        </>
      ) : entry.message === "" ? null : (
        <Button look="link" icon="copy" onClick={() => void copy(entry.message)}>
          Copy
        </Button>
      )}
      <Button
        look="link"
        icon="bin"
        onClick={() => {
          chat.discard(entry.nonce);
          onDone?.();
        }}
      >
        Delete
      </Button>
    </span>
  );
}

/** The server does not reveal a room to users outside it; this user was in it, so we can name it. */
function whyNot({ code, message }: Failure, inside: boolean): string {
  return code === "not_found" && !inside ? "You are not in this room any more." : message;
}

/** Edits a failed message in its place. */
function EditFailed({ entry, focus, onClose }: { entry: Outgoing; focus: boolean; onClose: () => void }) {
  const chat = useClient();
  const slot = editSlot(entry.nonce);
  const { text, write } = useDraft(slot);

  function cancel() {
    write("");
    onClose();
  }

  return (
    <EditField
      slot={slot}
      roomId={entry.roomId}
      asks
      label="Message that was not sent"
      text={text}
      optional={entry.files !== undefined}
      focus={focus}
      note="Your draft below stays as it is."
      verb="Send"
      onText={write}
      onSend={() => {
        chat.sendEdited(entry);
        onClose();
      }}
      onCancel={cancel}
      onEscape={() => {
        if (text.trim() === entry.message.trim()) cancel();
      }}
    />
  );
}

type ProgressProps = {
  state: "waiting" | "sending" | "unconfirmed";
  online: boolean;
  /** Files of an earlier message are still to be uploaded. */
  behind: boolean;
  slow: boolean;
  unkept: Outgoing["unkept"];
};

function Progress({ state, online, behind, slow, unkept }: ProgressProps) {
  const words =
    state === "unconfirmed"
      ? "Not confirmed yet, trying again"
      : !online
        ? "Waits for the connection"
        : behind && state === "waiting"
          ? "Waits for the files before it"
          : slow && state === "waiting"
            ? "Waits for slow mode"
            : "Sending";
  return (
    <span className={css.mark} title={words}>
      <Icon name="clock" />
      <span className={words === "Sending" ? "hidden" : undefined}>
        {words}
        {unkept && ". Only this page has it: keep it open."}
      </span>
    </span>
  );
}

type RowProps = {
  /** Begins the ids of the elements that say who, when and what. */
  id?: string;
  from: UserId;
  name: string;
  date: number;
  mine: boolean;
  first: boolean;
  outgoing?: Outgoing["state"];
  children: ReactNode;
};

function Row({ id, from, name, date, mine, first, outgoing, children }: RowProps) {
  const { open } = useOverlays();
  useClock();
  const idOf = (part: "who" | "when" | "what") => (id === undefined ? undefined : `${id}${part}`);
  const time = (
    <time
      id={idOf("when")}
      className={css.time}
      dateTime={new Date(date).toISOString()}
      title={first ? showFull(date) : undefined}
    >
      {showClock(date)}
    </time>
  );
  return (
    <div
      className={classes(css.message, first && css.first)}
      data-from={name}
      data-state={outgoing ?? "sent"}
    >
      <span className={css.gutter}>{first ? <Avatar userId={from} name={name} /> : time}</span>
      <div className={css.body}>
        {first ? (
          <div className={css.head}>
            {mine ? (
              <span id={idOf("who")} className={css.name}>
                {name}
              </span>
            ) : (
              <button
                type="button"
                id={idOf("who")}
                className={css.name}
                title={`About ${name}`}
                onClick={() => open({ is: "person", userId: from })}
              >
                {name}
              </button>
            )}
            {time}
          </div>
        ) : (
          <span id={idOf("who")} className="hidden">
            {name}:{" "}
          </span>
        )}
        <div id={idOf("what")} data-part="body" className={css.text}>
          {children}
        </div>
      </div>
    </div>
  );
}
