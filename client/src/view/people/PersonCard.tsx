import type { UserId } from "@hubbub/server/protocol";
import { isOnline, nameOf } from "../../chat/state/people.ts";
import { useOverlays } from "../overlays.ts";
import { useWays } from "../rooms/useWays.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Button } from "../ui/Button.tsx";
import { Dialog, DialogActions } from "../ui/Dialog.tsx";
import { useChat } from "../useChat.ts";
import css from "./PersonCard.module.css";

/** Shows a person, with a button for the private room with them. */
export function PersonCard({ userId }: { userId: UserId }) {
  const user = useChat((state) => state.users.get(userId));
  const name = user === undefined ? `user ${userId}` : nameOf(user);
  const online = useChat((state) => isOnline(state, userId));
  const { close } = useOverlays();
  const { talkTo } = useWays();
  return (
    <Dialog title={name} onClose={close}>
      <div className={css.card}>
        <Avatar userId={userId} name={name} online={online} large />
        <div>
          {user?.displayName !== undefined && <p>@{user.username}</p>}
          {online !== undefined && <p>{online ? "Online" : "Offline"}</p>}
        </div>
      </div>
      <DialogActions>
        <Button look="main" data-first onClick={() => talkTo(userId)}>
          Send a direct message
        </Button>
      </DialogActions>
    </Dialog>
  );
}
