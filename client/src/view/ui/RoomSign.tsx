import type { UserId } from "@hubbub/server/protocol";
import { Avatar } from "./Avatar.tsx";
import { classes } from "./classes.ts";
import { Icon } from "./Icon.tsx";
import css from "./RoomSign.module.css";

type Props = {
  title: string;
  /** Who else is in a private room; null for a named one. */
  partnerId: UserId | null;
  /** It is General. */
  general?: boolean;
  online?: boolean | undefined;
  large?: boolean;
};

/** What stands for a room: a sign, or of a private one who else is in it. */
export function RoomSign({ title, partnerId, general = false, online, large = false }: Props) {
  if (partnerId !== null) return <Avatar userId={partnerId} name={title} online={online} large={large} />;
  return (
    <span className={classes(css.sign, general && css.general, large && css.large)} aria-hidden="true">
      <Icon name="hash" />
    </span>
  );
}
