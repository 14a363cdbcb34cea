import { LIMITS } from "@hubbub/server/protocol";
import { useReducer, useRef } from "react";
import { filesSlot, type Slot } from "../../chat/drafts.ts";
import { filesIn, isImage, type OutgoingFile } from "../../chat/state/files.ts";
import { announce } from "../announce.tsx";
import { IconButton } from "../ui/Button.tsx";
import { Icon } from "../ui/Icon.tsx";
import { useChat, useClient } from "../useChat.ts";
import css from "./Tray.module.css";
import { useBytes } from "./useBytes.ts";
import { showSize } from "./words.ts";

type Props = {
  slot: Slot;
  files: readonly OutgoingFile[];
  /** The last one was removed, and the focus with it. */
  onEmpty: () => void;
};

/** The files that go with the message that is being written. */
export function Tray({ slot, files, onEmpty }: Props) {
  const chat = useClient();
  const list = useRef<HTMLUListElement>(null);

  function remove({ key, name }: OutgoingFile) {
    const at = files.findIndex((file) => file.key === key);
    const next = files[at + 1] ?? files[at - 1];
    chat.removeFile(slot, key);
    announce(`${name} removed`);
    if (next === undefined) onEmpty();
    else list.current?.querySelector<HTMLElement>(`[data-file="${next.key}"] button`)?.focus();
  }

  return (
    <ul ref={list} className={css.tray} aria-label="Files to send">
      {files.map((file) => (
        <li key={file.key} data-file={file.key} className={css.file}>
          <span className={css.picture}>
            {isImage(file) ? <Thumbnail file={file} /> : <Icon name="file" />}
          </span>
          <span className={css.about}>
            <bdi className={css.name}>{file.name}</bdi>{" "}
            <span className={css.size}>{showSize(file.size)}</span>
          </span>
          {isImage(file) && <Alt slot={slot} file={file} />}
          <IconButton icon="close" label={`Remove ${file.name}`} onClick={() => remove(file)} />
        </li>
      ))}
    </ul>
  );
}

function Thumbnail({ file }: { file: OutgoingFile }) {
  const url = useBytes(file);
  return url === null || url === "gone" ? <Icon name="file" /> : <img src={url} alt="" decoding="async" />;
}

/** What an image shows, for people who cannot see it. */
function Alt({ slot, file }: { slot: Slot; file: OutgoingFile }) {
  const chat = useClient();
  const alt = useChat(
    ({ drafts }) => filesIn(drafts.get(filesSlot(slot))).find(({ key }) => key === file.key)?.alt,
  );
  // At once, instead of with the chat's next update: a field must not lag behind the keys.
  const [, show] = useReducer((count: number) => count + 1, 0);
  return (
    <input
      className={css.alt}
      aria-label={`Description of ${file.name}`}
      placeholder="Describe it for those who cannot see it"
      value={alt ?? ""}
      maxLength={LIMITS.alt}
      autoComplete="off"
      onChange={({ target }) => {
        chat.describeFile(slot, file.key, target.value);
        show();
      }}
    />
  );
}
