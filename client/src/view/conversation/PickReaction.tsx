import type { Message } from "@hubbub/server/protocol";
import { useOverlays } from "../overlays.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { EmojiPicker } from "../ui/EmojiPicker.tsx";
import { useClient } from "../useChat.ts";
import { useAttempt } from "./useAttempt.ts";

/** Picks any emoji as a reaction to a message. */
export function PickReaction({ message }: { message: Message }) {
  const chat = useClient();
  const { close } = useOverlays();
  const attempt = useAttempt();
  return (
    <Dialog title="React to the message" onClose={close}>
      <EmojiPicker
        onPick={(emoji) => {
          close();
          attempt(() => chat.react(message, emoji, true));
        }}
      />
    </Dialog>
  );
}
