import type { UserId } from "@hubbub/server/protocol";
import { isOnline } from "../../chat/state/people.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { useChat } from "../useChat.ts";

type Props = { userId: UserId; onClose: () => void; onTalkTo: (userId: UserId) => void };

/** Who somebody is, and the way to a private room with them. */
export function PersonCard({ userId, onClose, onTalkTo }: Props) {
  const name = useChat((state) => state.users.get(userId)?.username ?? `user ${userId}`);
  const online = useChat((state) => isOnline(state, userId));
  return (
    <Dialog title={name} onClose={onClose}>
      <div className="card">
        <Avatar userId={userId} name={name} online={online} large />
        {online !== undefined && <p>{online ? "Online" : "Offline"}</p>}
      </div>
      <div className="dialog-actions">
        <button type="button" className="button button-main" data-first onClick={() => onTalkTo(userId)}>
          Send a direct message
        </button>
      </div>
    </Dialog>
  );
}
