import type { AnchorHTMLAttributes, ButtonHTMLAttributes, MouseEvent } from "react";
import css from "./Button.module.css";
import { classes } from "./classes.ts";
import { Icon, type IconName } from "./Icon.tsx";

type ButtonProps = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "className"> & {
  look?: "plain" | "main" | "danger" | "link";
  icon?: IconName;
  /** As wide as its container. */
  wide?: boolean;
  /** Whether what it does is under way: then it is disabled, and says so. */
  busy?: boolean;
};

/** A button with a text. Disabled, it keeps the focus, which browsers take from a button with that attribute. */
export function Button({
  look = "plain",
  icon,
  wide = false,
  type = "button",
  busy = false,
  disabled = busy,
  onClick,
  children,
  ...rest
}: ButtonProps) {
  return (
    <button
      type={type}
      className={look === "link" ? css.link : classes(css.button, css[look], wide && css.wide)}
      aria-disabled={disabled || undefined}
      aria-busy={busy || undefined}
      onClick={disabled ? refuse : onClick}
      {...rest}
    >
      {icon !== undefined && <Icon name={icon} />}
      {children}
    </button>
  );
}

/** A press does nothing; without this one of a submit button, also by Enter in a field, would submit its form. */
function refuse(event: MouseEvent): void {
  event.preventDefault();
}

type ButtonLinkProps = Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "className"> & { icon: IconName };

/** A link that looks like a button. */
export function ButtonLink({ icon, children, ...rest }: ButtonLinkProps) {
  return (
    <a className={css.button} {...rest}>
      <Icon name={icon} />
      {children}
    </a>
  );
}

type IconButtonProps = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "className" | "children"> & {
  icon: IconName;
  /** What it does: its accessible name, and its tooltip. */
  label: string;
  /** As a Button's. */
  busy?: boolean;
};

/** A button with an icon. */
export function IconButton({
  icon,
  label,
  type = "button",
  busy = false,
  onClick,
  ...rest
}: IconButtonProps) {
  return (
    <button
      type={type}
      className={css.icon}
      aria-label={label}
      title={label}
      aria-disabled={busy || undefined}
      aria-busy={busy || undefined}
      onClick={busy ? refuse : onClick}
      {...rest}
    >
      <Icon name={icon} />
    </button>
  );
}

type IconLinkProps = Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "className" | "children"> & {
  icon: IconName;
  label: string;
};

/** A link that looks like an icon button. */
export function IconLink({ icon, label, ...rest }: IconLinkProps) {
  return (
    <a className={css.icon} aria-label={label} {...rest}>
      <Icon name={icon} />
    </a>
  );
}
