import { LIMITS, type RoomId } from "@hubbub/server/protocol";
import { useEffect, useImperativeHandle, useRef, useState, type KeyboardEvent, type Ref } from "react";
import { wordsOf } from "../chat/api.ts";
import { Icon } from "./Icon.tsx";
import { useClient } from "./useChat.ts";
import { PHONE } from "./useMedia.ts";

/** How near the limit its count is shown. */
const COUNT_SHOWN = 400;

export type ComposerFace = { write: (text: string) => void };

type Props = { roomId: RoomId; title: string; face: Ref<ComposerFace>; onSent: () => void };

export function Composer({ roomId, title, face, onSent }: Props) {
  const chat = useClient();
  const [text, setText] = useState(() => chat.snapshot().drafts.get(roomId) ?? "");
  const [fault, setFault] = useState<string | null>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  const left = LIMITS.message - text.length;
  const sendable = text.trim() !== "" && left >= 0;

  useEffect(() => {
    // A draft is gone on with, not written before.
    area.current?.setSelectionRange(area.current.textLength, area.current.textLength);
    // On a phone the keyboard would cover the room before it was read.
    if (!matchMedia(PHONE).matches) area.current?.focus();
  }, []);

  useImperativeHandle(face, () => ({
    write(given) {
      write(given);
      area.current?.focus();
    },
  }));

  function write(given: string) {
    setText(given);
    setFault(null);
    chat.setDraft(roomId, given);
  }

  function send() {
    if (!sendable) return;
    try {
      chat.send(roomId, text);
    } catch (error) {
      setFault(wordsOf(error));
      return;
    }
    setText("");
    setFault(null);
    onSent();
  }

  function onKeyDown(event: KeyboardEvent) {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  }

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
        area.current?.focus();
      }}
    >
      <div className="composer-box">
        <div className="composer-text" data-text={text}>
          <textarea
            id="composer"
            ref={area}
            rows={1}
            value={text}
            dir="auto"
            aria-label={`Message to ${title}`}
            placeholder={`Message ${title}`}
            aria-describedby="composer-note"
            aria-invalid={left < 0}
            enterKeyHint="send"
            onChange={(event) => write(event.target.value)}
            onKeyDown={onKeyDown}
          />
        </div>
        <button type="submit" className="send" aria-label="Send message" title="Send" disabled={!sendable}>
          <Icon name="send" />
        </button>
      </div>
      <p
        id="composer-note"
        className={left < 0 || fault !== null ? "composer-note composer-fault" : "composer-note"}
      >
        {fault ?? noteOn(left)}
      </p>
    </form>
  );
}

function noteOn(left: number) {
  if (left < 0) return `${-left} characters too many`;
  if (left < COUNT_SHOWN) return `${left} characters left`;
  return (
    <span className="composer-keys">
      <kbd>Enter</kbd> sends, <kbd>Shift Enter</kbd> starts a new line
    </span>
  );
}
