import { isBlank, LIMITS, type Message, type RoomId } from "@hubbub/server/protocol";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "react";
import { wordsOf } from "../../chat/api.ts";
import type { ChatClient } from "../../chat/chat.ts";
import { changeSlot, EMPTY, type Slot } from "../../chat/drafts.ts";
import type { Outgoing } from "../../chat/state/outgoing.ts";
import type { ChatState } from "../../chat/state/state.ts";
import { isIn } from "../../chat/state/thread.ts";
import { Button } from "../ui/Button.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { TextArea } from "../ui/TextArea.tsx";
import { useAsChanged, useClient, useDraft, useMe } from "../useChat.ts";
import { charactersIn } from "./Composer.tsx";
import css from "./EditMessage.module.css";
import { useRoomCall } from "./useRoomCall.ts";

/** The draft of an edit of a stored message. */
export function slotOf({ roomId, seq }: Message): string {
  return changeSlot(roomId, seq);
}

/** The place of the edited row. */
export type EditPlace = "log" | "thread";

/** The draft that was begun here, which gets the focus; others were begun in another tab, or before a reload. */
let begun: string | null = null;
/** The places where drafts were begun. */
const places = new Map<string, EditPlace>();

/** Whether a message is being edited in this place. If log and thread both show it, only one of them edits it. */
export function isEditedIn({ thread, rooms }: ChatState, message: Message, place: EditPlace): boolean {
  const isBeside = thread !== null && thread.roomId === message.roomId && isIn(thread, message.seq);
  const isFolded = message.thread !== undefined && rooms?.get(message.roomId)?.folded === true;
  const chosen = places.get(slotOf(message)) ?? (isFolded ? "thread" : "log");
  return place === (isBeside ? chosen : "log");
}

export function beginEdit(chat: ChatClient, message: Message, place: EditPlace): void {
  begun = slotOf(message);
  places.set(begun, place);
  chat.beginEdit(message);
}

/**
 * Begins to edit the user's last one of these messages, and answers it. Null if there is none, or while the last one is
 * among those that wait for their place: an earlier one is not meant.
 */
export function useEditLast(
  place: EditPlace,
): (messages: readonly Message[], waiting: readonly Outgoing[]) => Message | null {
  const chat = useClient();
  const me = useMe();
  const asChanged = useAsChanged();
  return (messages, waiting) => {
    const last = messages.findLast((one) => one.from === me.id && asChanged(one).deleted === undefined);
    if (last === undefined || waiting.some(({ state }) => state !== "failed")) return null;
    beginEdit(chat, last, place);
    return last;
  };
}

/** Edits one's own message in its place. */
export function EditMessage({ message, onDone }: { message: Message; onDone: () => void }) {
  const chat = useClient();
  const slot = slotOf(message);
  const { text, write } = useDraft(slot);
  const [focus] = useState(begun === slot);

  useEffect(() => {
    if (begun === slot) begun = null;
  }, [slot]);

  function giveUp() {
    write("");
    onDone();
  }

  return (
    <EditField
      slot={slot}
      roomId={message.roomId}
      asks={message.mentionsRoom !== true}
      label="Edit message"
      text={text}
      optional={message.files !== undefined}
      focus={focus}
      note="Enter saves, Escape gives up"
      verb="Save"
      onText={write}
      onSend={() => {
        if ((text === EMPTY ? "" : text) !== message.message) chat.editMessage(message, text);
        giveUp();
      }}
      onCancel={giveUp}
      onEscape={giveUp}
    />
  );
}

type FieldProps = {
  /** The draft of the edit. */
  slot: Slot;
  roomId: RoomId;
  /** Whether the user confirms a text that calls many people. */
  asks: boolean;
  label: string;
  text: string;
  /** Files go with it, so that it may be empty. */
  optional: boolean;
  focus: boolean;
  note: string;
  verb: "Save" | "Send";
  onText: (text: string) => void;
  /** Sends the text as it is now. May throw a ChatError, whose message is shown. */
  onSend: () => void;
  onCancel: () => void;
  onEscape: () => void;
};

/** A text field in the place of a message. */
export function EditField({
  slot,
  roomId,
  asks,
  label,
  text,
  optional,
  focus,
  note,
  verb,
  onText,
  onSend,
  onCancel,
  onEscape,
}: FieldProps) {
  const [fault, setFault] = useState<string | null>(null);
  const noteId = useId();
  const area = useRef<HTMLTextAreaElement>(null);
  const left = LIMITS.message - text.length;
  const chat = useClient();
  const tell = useNotice();
  const confirm = useRoomCall(roomId);
  const isSending = useRef(false);

  useLayoutEffect(() => {
    const field = area.current;
    return () => {
      if (document.activeElement === field && !chat.snapshot().drafts.has(slot))
        tell("Your edit has ended: its message was changed, sent or deleted elsewhere.");
    };
  }, [chat, slot, tell]);

  useEffect(() => {
    area.current?.setSelectionRange(area.current.textLength, area.current.textLength);
    if (focus) area.current?.focus();
  }, [focus]);

  function send() {
    if ((isBlank(text) && !optional) || left < 0 || isSending.current) return;
    // Meanwhile it may be given up, or written on: then nothing is sent until the user asks again.
    const isMeant = () => chat.snapshot().drafts.get(slot) === text;
    const go = () => {
      if (!isMeant()) return;
      try {
        onSend();
      } catch (error) {
        setFault(wordsOf(error));
      }
    };
    const sure = !asks || confirm(text, isMeant);
    if (sure === true) {
      go();
      return;
    }
    isSending.current = true;
    void sure.then((yes) => yes && go()).finally(() => (isSending.current = false));
  }

  return (
    <span className={css.edit}>
      <div className={css.field}>
        <TextArea
          ref={area}
          label={label}
          text={text === EMPTY ? "" : text}
          invalid={left < 0}
          note={noteId}
          onText={(given) => {
            setFault(null);
            onText(optional && given === "" ? EMPTY : given);
          }}
          onSend={send}
          onKeyDown={(event) => {
            if (event.key !== "Escape") return;
            event.stopPropagation();
            onEscape();
          }}
        />
      </div>
      <span id={noteId} className={css.note}>
        {fault ?? (left < 0 ? `${charactersIn(-left)} too many` : note)}
      </span>
      <Button look="link" icon={verb === "Save" ? "check" : "send"} onClick={send}>
        {verb}
      </Button>
      <Button look="link" icon="close" onClick={onCancel}>
        Cancel
      </Button>
    </span>
  );
}
