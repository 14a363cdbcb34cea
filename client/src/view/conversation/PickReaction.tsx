import type { Message } from "@hubbub/server/protocol";
import { wordsOf } from "../../chat/api.ts";
import { useOverlays } from "../overlays.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { EmojiPicker } from "../ui/EmojiPicker.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useClient } from "../useChat.ts";

/** Picks any emoji as a reaction to a message. */
export function PickReaction({ message }: { message: Message }) {
  const chat = useClient();
  const { close } = useOverlays();
  const notice = useNotice();
  return (
    <Dialog title="React to the message" onClose={close}>
      <EmojiPicker
        onPick={(emoji) => {
          close();
          try {
            chat.react(message, emoji, true);
          } catch (error) {
            notice(wordsOf(error));
          }
        }}
      />
    </Dialog>
  );
}
