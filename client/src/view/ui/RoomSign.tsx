import type { UserId } from "@hubbub/server/protocol";
import { Avatar } from "./Avatar.tsx";
import { classes } from "./classes.ts";
import { Icon } from "./Icon.tsx";
import css from "./RoomSign.module.css";

type Props = {
  title: string;
  /** The other user of a private room; null for a named one. */
  partnerId: UserId | null;
  /** Whether it is General. */
  general?: boolean;
  online?: boolean | undefined;
  large?: boolean;
};

/** A room's sign: an icon, or the other user's avatar for a private room. */
export function RoomSign({ title, partnerId, general = false, online, large = false }: Props) {
  if (partnerId !== null) return <Avatar userId={partnerId} name={title} online={online} large={large} />;
  return (
    <span className={classes(css.sign, general && css.general, large && css.large)} aria-hidden="true">
      <Icon name="hash" />
    </span>
  );
}
