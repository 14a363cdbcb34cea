import { isBlank, LIMITS, type Message, type RoomId } from "@hubbub/server/protocol";
import {
  Suspense,
  useEffect,
  useImperativeHandle,
  useMemo,
  useRef,
  useState,
  type KeyboardEvent,
  type Ref,
} from "react";
import { wordsOf } from "../../chat/api.ts";
import { answeringIn, filesSlot, replySlot, threadSlot, type Slot, type Written } from "../../chat/drafts.ts";
import { createSendQueue } from "../../chat/sendQueue.ts";
import { filesIn } from "../../chat/state/files.ts";
import { nameIn } from "../../chat/state/people.ts";
import { announce } from "../announce.tsx";
import { AddFiles, type AddFilesFace } from "../files/AddFiles.tsx";
import { useIncoming } from "../files/incoming.ts";
import { isCommand } from "../keys.ts";
import { later, laterOnce } from "../later.ts";
import { IconButton } from "../ui/Button.tsx";
import { classes } from "../ui/classes.ts";
import { Cut, CutLine } from "../ui/Cut.tsx";
import { Icon } from "../ui/Icon.tsx";
import { useCompletion } from "./Completion.tsx";
import { EmojiButton } from "./EmojiButton.tsx";
import { Typing } from "./Typing.tsx";
import { TextArea, typeInto } from "../ui/TextArea.tsx";
import { useChat, useClient, useDraft } from "../useChat.ts";
import { NO_KEYBOARD } from "../useMedia.ts";
import css from "./Composer.module.css";
import { useLine, useQuoted } from "./Quote.tsx";
import { useClosed, useSlow } from "./useClosed.ts";
import { useRoomCall } from "./useRoomCall.ts";

/** The count is shown within this many characters of the limit. */
const COUNT_SHOWN = 400;

const Tray = later(async () => (await import("../files/Tray.tsx")).Tray);
const chooser = laterOnce(async () => {
  // What keeps the files is loaded with it, so that they can be added without a connection.
  const [{ chooseFiles }] = await Promise.all([import("../files/choose.ts"), import("../../chat/files.ts")]);
  return chooseFiles;
});

export type ComposerFace = { focus: () => void };

type Props = {
  /** The id of its field. */
  id: "composer" | "thread-composer";
  roomId: RoomId;
  /** A thread's first message: texts answer it, or the answer that is chosen. */
  root?: Message;
  label: string;
  placeholder: string;
  face: Ref<ComposerFace>;
  onSent: () => void;
  /** Starts to edit the user's last message; false if there is none. */
  onEditLast: () => boolean;
  /** Scrolls the log by so many views. */
  onPage: (views: number) => void;
};

export function Composer({ id, roomId, root, label, placeholder, face, onSent, onEditLast, onPage }: Props) {
  const chat = useClient();
  const slot = root === undefined ? roomId : threadSlot(roomId, root.seq);
  const { text, write, show } = useDraft(slot);
  const [fault, setFault] = useState<string | null>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  const completion = useCompletion({ roomId, area, text });
  const confirm = useRoomCall(roomId);
  const isBeside = root !== undefined;
  const left = LIMITS.message - text.length;
  const closed = useClosed(roomId);
  const slow = useSlow(roomId);
  const listed = useChat((state) => state.drafts.get(filesSlot(slot)));
  const files = useMemo(() => filesIn(listed), [listed]);
  const [refusals, setRefusals] = useState<readonly string[]>([]);
  /** The files that are not in the draft yet. */
  const [coming, setComing] = useState<readonly File[]>([]);
  /** Resolves once they are, or some were refused: false. */
  const added = useRef(Promise.resolve(true));
  /** Whether anything that was sent waits for files. */
  const [waits, setWaits] = useState(false);
  const [queue] = useState(() => createSendQueue(setWaits));
  const adder = useRef<AddFilesFace>(null);
  const isOver = useIncoming(id, add);
  const sendable = closed === null && (!isBlank(text) || files.length + coming.length > 0) && left >= 0;
  const before = useRef(closed);
  useEffect(() => {
    if (before.current === closed) return;
    before.current = closed;
    announce(closed ?? "You can write here again.");
  }, [closed]);

  useEffect(() => {
    // Put the caret after the draft.
    area.current?.setSelectionRange(area.current.textLength, area.current.textLength);
    // After a jump to a message the focus is there, and a user who opens a thread may want to read it first.
    const { visit } = chat.snapshot();
    const isVisited = visit?.roomId === roomId && visit.is !== "missing";
    if (!isBeside && !isVisited && matchMedia(NO_KEYBOARD).matches) area.current?.focus();
  }, [chat, roomId, isBeside]);

  useImperativeHandle(face, () => ({ focus: () => area.current?.focus() }));

  function add(given: readonly File[]) {
    if (given.length === 0) return;
    if (closed !== null) {
      setRefusals([closed]);
      return;
    }
    // What waits for the earlier ones waits for these too, so its user sees why any of them was refused.
    const isFirst = coming.length === 0;
    const earlier = isFirst ? true : added.current;
    const refused = chooser()
      .then((choose) => choose(chat, slot, given))
      .catch((error: unknown) => [wordsOf(error)]);
    setComing((others) => [...others, ...given]);
    added.current = refused.then(async (words) => {
      setRefusals((others) => [...new Set([...(isFirst ? [] : others), ...words])]);
      setComing((all) => all.filter((file) => !given.includes(file)));
      return words.length === 0 && (await earlier);
    });
    if (matchMedia(NO_KEYBOARD).matches) area.current?.focus();
  }

  /** Sends what stands here now, once its files and all that was sent before are. */
  function send() {
    if (!sendable) return;
    const isComing = coming.length > 0;
    if (isComing) announce(onceAdded(coming));
    queue.add(
      {
        written: () => chat.written(slot),
        // Another room may be shown by now, and another user's.
        write: (words) => area.current !== null && write(words),
        confirm,
        send: sendNow,
      },
      isComing ? added.current : undefined,
    );
  }

  function sendNow(what: Written, isLast: boolean): boolean {
    try {
      chat.send(roomId, root, what);
    } catch (error) {
      setFault(wordsOf(error));
      return false;
    }
    setFault(null);
    // They may be why what waits behind it is not sent.
    if (isLast) setRefusals([]);
    show();
    onSent();
    return true;
  }

  function insert(emoji: string) {
    const field = area.current;
    if (field !== null) typeInto(field, field.selectionStart, field.selectionEnd, emoji);
  }

  function onKeyDown(event: KeyboardEvent<HTMLTextAreaElement>) {
    if (closed === null && completion.onKeyDown(event)) return;
    if (closed === null && event.key === "ArrowUp" && text === "" && onEditLast()) {
      event.preventDefault();
      return;
    }
    if (isCommand(event, "u")) {
      event.preventDefault();
      adder.current?.pick();
      return;
    }
    if (event.key === "Escape" && chat.snapshot().drafts.has(replySlot(slot))) {
      event.stopPropagation();
      chat.answer(slot, null);
    }
    const views = event.key === "PageUp" ? -1 : event.key === "PageDown" ? 1 : 0;
    const { scrollHeight, clientHeight } = event.currentTarget;
    if (views === 0 || event.shiftKey || scrollHeight > clientHeight + 1) return;
    event.preventDefault();
    onPage(views);
  }

  return (
    <form
      className={css.composer}
      onSubmit={(event) => {
        event.preventDefault();
        send();
        area.current?.focus();
      }}
    >
      <ReplyBar roomId={roomId} slot={slot} onDone={() => area.current?.focus()} />
      {files.length > 0 && (
        <Suspense>
          <Tray slot={slot} files={files} onEmpty={() => area.current?.focus()} />
        </Suspense>
      )}
      {refusals.length > 0 && (
        <div className={css.refused} role="alert">
          {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls must be scrollable with the keys */}
          <div tabIndex={0}>
            {refusals.map((words) => (
              <p key={words}>{words}</p>
            ))}
          </div>
          <IconButton icon="close" label="Dismiss" onClick={() => setRefusals([])} />
        </div>
      )}
      {closed === null && completion.list}
      {closed !== null && (
        <p id={`${id}-note`} className={css.closed}>
          <Icon name="lock" /> {closed}
        </p>
      )}
      <div data-part="box" className={classes(css.box, closed !== null && css.unused)}>
        <TextArea
          id={id}
          ref={area}
          text={text}
          label={label}
          placeholder={closed === null ? placeholder : ""}
          readOnly={closed !== null}
          note={`${id}-note`}
          invalid={left < 0}
          onText={(given) => {
            setFault(null);
            write(given);
            completion.look(given);
            if (!isBlank(given)) chat.typing(roomId);
          }}
          onSend={send}
          onKeyDown={onKeyDown}
          onCaret={() => completion.look(text)}
          onBlur={completion.close}
          list={completion.aria}
        />
        {closed === null && (
          <>
            <AddFiles face={adder} onFiles={add} />
            <EmojiButton onPick={insert} />
          </>
        )}
        {/* A disabled button would take the focus at a second click; the focus stays in the field. */}
        <button
          type="submit"
          className={css.send}
          aria-label="Send message"
          title="Send"
          aria-disabled={!sendable}
          onMouseDown={(event) => event.preventDefault()}
        >
          <Icon name="send" />
        </button>
      </div>
      {closed === null && (
        <p id={`${id}-note`} className={classes(css.note, (left < 0 || fault !== null) && css.fault)}>
          {fault ?? noteOn(left, coming, waits, slow)}
        </p>
      )}
      {!isBeside && <Typing roomId={roomId} />}
      {isOver && (
        <div className={css.drop} aria-hidden="true">
          <Icon name="clip" />
          <p>{closed ?? `Drop to add to your ${label.charAt(0).toLowerCase()}${label.slice(1)}`}</p>
        </div>
      )}
    </form>
  );
}

function ReplyBar({ roomId, slot, onDone }: { roomId: RoomId; slot: Slot; onDone: () => void }) {
  const chat = useClient();
  const answers = answeringIn(useChat((state) => state.drafts.get(replySlot(slot))));
  const quoted = useQuoted(roomId, answers);
  // Where it should stand is shown, and it is not there.
  const isGone = useChat(({ rooms }) => {
    const { messages: [first] = [] } = rooms?.get(roomId)?.log ?? {};
    return quoted === undefined && first !== undefined && (answers?.replyTo ?? 0) >= first.seq;
  });
  const line = useLine(quoted);
  const name = useChat((state) => nameIn(state.users, quoted?.from, ""));
  if (answers === undefined) return null;
  const who = name === "" ? `a message${isGone ? " that is not there any more" : ""}` : name;
  return (
    <div className={css.reply}>
      <Icon name="reply" />
      <CutLine>
        {"Replying to "}
        <Cut half>{who}</Cut>
        {quoted && (
          <>
            {": "}
            <Cut>{line}</Cut>
          </>
        )}
      </CutLine>
      <IconButton
        icon="close"
        label="Do not reply"
        onClick={() => {
          chat.answer(slot, null);
          onDone();
        }}
      />
    </div>
  );
}

export function charactersIn(count: number): string {
  return count === 1 ? "1 character" : `${count} characters`;
}

function namesOf(files: readonly File[]): string {
  return files.map(({ name }) => name).join(", ");
}

function onceAdded(coming: readonly File[]): string {
  return `What you have sent waits for ${namesOf(coming)}…`;
}

function noteOn(left: number, coming: readonly File[], waits: boolean, slow: string | null) {
  if (left < 0) return `${charactersIn(-left)} too many`;
  if (left < COUNT_SHOWN) return `${charactersIn(left)} left`;
  if (coming.length > 0) return waits ? onceAdded(coming) : `Adding ${namesOf(coming)}…`;
  if (slow !== null) return slow;
  return (
    <span className={css.keys}>
      <kbd>Enter</kbd> sends, <kbd>Shift Enter</kbd> starts a new line
    </span>
  );
}
