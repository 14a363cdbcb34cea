import type { Message } from "@hubbub/server/protocol";
import { useEffect, useRef, type KeyboardEvent } from "react";
import { UNDO_MS } from "../../chat/outbox.ts";
import { nameIn } from "../../chat/state/people.ts";
import { addressOf } from "../address.ts";
import { useOverlays } from "../overlays.ts";
import { Button, IconButton } from "../ui/Button.tsx";
import { closeAndAct, Dialog } from "../ui/Dialog.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useCopy } from "../ui/useCopy.ts";
import { noteEmoji, recentEmoji } from "../ui/useEmoji.ts";
import { useChat, useClient, useMe } from "../useChat.ts";
import css from "./Actions.module.css";
import { useAttempt } from "./useAttempt.ts";
import { useClosed } from "./useClosed.ts";

/** The first emoji of a picker, and those that are one click away before the user has chosen any. */
const COMMON = ["👍", "❤️", "😂", "🎉", "😮", "👀"];

type Props = {
  message: Message;
  /** Starts to edit the message in its place. */
  onEdit: () => void;
  onReply: (message: Message) => void;
  /** Opens its thread, or begins one; undefined if that is open. */
  onThread: (() => void) | undefined;
};

/** `picking`: whether the reactions to choose from are open. */
type BarProps = Props & { picking: boolean; onPicking: (picking: boolean) => void };

/** The actions of a message, as a bar at its corner. */
export function Actions({ picking, onPicking, ...props }: BarProps) {
  const { message, onThread } = props;
  const does = useActions(props);

  function onKeyDown(event: KeyboardEvent<HTMLElement>) {
    if (event.key !== "Escape" || !picking) {
      roveBar(event);
      return;
    }
    event.stopPropagation();
    onPicking(false);
  }

  return (
    <div className={css.bar} role="toolbar" tabIndex={-1} aria-label="Message actions" onKeyDown={onKeyDown}>
      {does.write && (
        <>
          <IconButton
            icon="smile"
            label="Add reaction"
            aria-expanded={picking}
            onClick={() => onPicking(!picking)}
          />
          <IconButton icon="reply" label="Reply" tabIndex={-1} onClick={does.reply} />
        </>
      )}
      {onThread && <IconButton icon="thread" label={threadLabel(message)} tabIndex={-1} onClick={onThread} />}
      {does.write && (
        <IconButton
          icon="pin"
          tabIndex={-1}
          label={message.pinned === undefined ? "Pin to room" : "Unpin"}
          onClick={does.pin}
        />
      )}
      {!does.mine && (
        <IconButton icon="mail" label="Mark unread from here" tabIndex={-1} onClick={does.markUnread} />
      )}
      <IconButton icon="link" label="Copy link" tabIndex={does.write ? -1 : 0} onClick={does.copyLink} />
      {does.edit && <IconButton icon="edit" label="Edit message" tabIndex={-1} onClick={does.edit} />}
      {does.report && <IconButton icon="flag" label="Report message" tabIndex={-1} onClick={does.report} />}
      {does.remove && <IconButton icon="bin" label="Delete message" tabIndex={-1} onClick={does.remove} />}
      {picking && (
        <Reactions
          onPick={(emoji) => {
            onPicking(false);
            does.react(emoji);
          }}
          onMore={does.pickEmoji}
        />
      )}
    </div>
  );
}

/** The same in an overlay, for devices without hover. */
export function ActionSheet({ onClose, ...props }: Props & { onClose: () => void }) {
  const { message, onThread } = props;
  const does = useActions(props);
  const close = (act: () => void) => () => closeAndAct(onClose, act);
  return (
    <Dialog title="Message" onClose={onClose}>
      {does.write && (
        <div className={css.row}>
          <SixEmoji onPick={(emoji) => close(() => does.react(emoji))()} />
        </div>
      )}
      <div className={css.sheet}>
        {does.write && (
          <>
            <Button wide icon="smile" onClick={close(does.pickEmoji)}>
              Another reaction
            </Button>
            <Button wide icon="reply" onClick={close(does.reply)}>
              Reply
            </Button>
          </>
        )}
        {onThread && (
          <Button wide icon="thread" onClick={close(onThread)}>
            {threadLabel(message)}
          </Button>
        )}
        {does.write && (
          <Button wide icon="pin" onClick={close(does.pin)}>
            {message.pinned === undefined ? "Pin to room" : "Unpin"}
          </Button>
        )}
        {message.message !== "" && (
          <Button wide icon="copy" onClick={close(() => does.copy(message.message))}>
            Copy text
          </Button>
        )}
        <Button wide icon="link" onClick={close(does.copyLink)}>
          Copy link
        </Button>
        {!does.mine && (
          <Button wide icon="mail" onClick={close(does.markUnread)}>
            Mark unread from here
          </Button>
        )}
        {does.edit && (
          <Button wide icon="edit" onClick={close(does.edit)}>
            Edit message
          </Button>
        )}
        {does.report && (
          <Button wide icon="flag" onClick={close(does.report)}>
            Report message
          </Button>
        )}
        {does.remove && (
          <Button wide look="danger" icon="bin" onClick={close(does.remove)}>
            Delete message
          </Button>
        )}
      </div>
    </Dialog>
  );
}

function threadLabel({ thread }: Message): string {
  return thread === undefined ? "Start a thread" : "Open thread";
}

function useActions({ message, onEdit, onReply }: Props) {
  const chat = useClient();
  const me = useMe();
  const { open, ask } = useOverlays();
  const notice = useNotice();
  const mine = message.from === me.id;
  const write = useClosed(message.roomId) === null;
  const moderates = useChat((state) => {
    const room = state.rooms?.get(message.roomId);
    return room !== undefined && room.kind !== "direct" && room.standing.role !== "member";
  });
  const author = useChat((state) => nameIn(state.users, message.from, "somebody"));
  const copyText = useCopy();
  const copy = (text: string) => void copyText(text);
  const attempt = useAttempt();
  const remove = () =>
    attempt(() => {
      const { undo, wait } = chat.deleteMessage(message);
      notice("Message deleted.", {
        ms: UNDO_MS,
        undo: () => notice(undo() ? "The message is back." : "It is too late: the message is deleted."),
        wait,
      });
    });
  const askToRemove = async () => {
    const isSure = await ask({
      title: `Delete the message of ${author}?`,
      text: "It is deleted for everybody in the room.",
      yes: "Delete message",
      no: "Keep it",
    });
    if (isSure) remove();
  };
  return {
    reply: () => onReply(message),
    react: (emoji: string) => {
      noteEmoji(emoji);
      const has = message.reactions?.some(([kind, users]) => kind === emoji && users.includes(me.id));
      attempt(() => chat.react(message, emoji, has !== true));
    },
    pickEmoji: () => open({ is: "react", message }),
    copyLink: () => copy(new URL(addressOf(message.roomId, message.seq), location.href).href),
    copy,
    markUnread: () => chat.markUnread(message),
    pin: () => {
      attempt(() => chat.pin(message, message.pinned === undefined));
    },
    mine,
    write,
    edit: mine && write ? onEdit : undefined,
    report: mine ? undefined : () => open({ is: "report", message }),
    remove: mine ? remove : moderates ? () => void askToRemove() : undefined,
  };
}

type ReactionsProps = { onPick: (emoji: string) => void; onMore: () => void };

function Reactions({ onPick, onMore }: ReactionsProps) {
  const box = useRef<HTMLFieldSetElement>(null);
  useEffect(() => {
    box.current?.querySelector("button")?.focus();
  }, []);
  return (
    <fieldset ref={box} className={css.picker} aria-label="Reactions">
      <SixEmoji onPick={onPick} />
      <IconButton icon="plus" label="More emoji" onClick={onMore} />
    </fieldset>
  );
}

/** The reactions that are one click away. */
function SixEmoji({ onPick }: { onPick: (emoji: string) => void }) {
  return sixEmoji().map((emoji) => (
    <button
      key={emoji}
      type="button"
      className={css.emoji}
      aria-label={`React with ${emoji}`}
      onClick={() => onPick(emoji)}
    >
      {emoji}
    </button>
  ));
}

/** Arrow keys move through the buttons of a bar, or of the group within it that has the focus. */
function roveBar(event: KeyboardEvent<HTMLElement>) {
  const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (step === 0) return;
  const around = (event.target as HTMLElement).closest("fieldset") ?? event.currentTarget;
  const buttons = [...around.querySelectorAll<HTMLButtonElement>(":scope > button")];
  const at = buttons.findIndex((button) => button === document.activeElement);
  buttons[(at + step + buttons.length) % buttons.length]?.focus();
  event.preventDefault();
  event.stopPropagation();
}

/** Six emoji, those that were chosen last first. */
function sixEmoji(): string[] {
  return [...new Set([...recentEmoji(), ...COMMON])].slice(0, COMMON.length);
}
