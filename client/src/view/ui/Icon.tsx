/** Icons of 20 by 20, with round strokes in the colour of the text. */
const PATHS = {
  hash: "M8 3 6.5 17M13.5 3 12 17M3.5 7.5h13.5M3 12.5h13.5",
  plus: "M10 4v12M4 10h12",
  compass: "M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15ZM12.8 7.2l-1.6 4-4 1.6 1.6-4 4-1.6Z",
  search: "M9 15A6 6 0 1 0 9 3a6 6 0 0 0 0 12ZM13.5 13.5 17 17",
  send: "M3.5 10h6M3.6 3.9 17 10 3.6 16.1l1.7-6.1-1.7-6.1Z",
  people:
    "M7.5 10a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2 16.5c.4-2.6 2.7-4 5.5-4s5.1 1.4 5.5 4M13 4.4a3 3 0 0 1 0 5.3M14.7 12.8c1.8.5 3 1.7 3.3 3.7",
  back: "M12.5 4 6.5 10l6 6",
  close: "M5 5l10 10M15 5 5 15",
  up: "M10 16V4.5M5 9l5-5 5 5",
  down: "M10 4v11.5M5 11l5 5 5-5",
  sun: "M10 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1",
  moon: "M16.5 11.8A7 7 0 0 1 8.2 3.5a7 7 0 1 0 8.3 8.3Z",
  system: "M3 4.5h14v9H3zM7.5 17h5M10 13.5V17",
  exit: "M8 3.5H4.5v13H8M12.5 6.5 16 10l-3.5 3.5M16 10H8",
  check: "M4 10.5 8.2 14.7 16 6",
  clock: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM10 6v4.2l2.7 1.6",
  warning: "M10 3.2 17.6 16.5H2.4L10 3.2ZM10 8.2v3.6M10 14.2v.1",
  retry: "M16 10a6 6 0 1 1-1.8-4.3L16 7.5M16 3.5v4h-4",
  edit: "M12.5 4.5l3 3L7 16l-3.7.7L4 13l8.5-8.5Z",
  bin: "M4 5.5h12M8 5.5V3.5h4v2M5.5 5.5l.7 11h7.6l.7-11M8.5 8.5v5M11.5 8.5v5",
  copy: "M7.5 7.5h9v9h-9zM12.5 4.5v-1h-9v9h1",
  smile:
    "M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15ZM6.8 11.8c.7 1.3 1.8 2 3.2 2s2.5-.7 3.2-2M7.5 7.6v.6M12.5 7.6v.6",
  reply: "M8 5 3.5 9.5 8 14M3.5 9.5H12a4.5 4.5 0 0 1 4.5 4.5v1.5",
  at: "M10 13.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4ZM13.2 7v3.8c0 3 3.8 2.6 3.8-.8a7 7 0 1 0-2.8 5.6",
  thread: "M3.5 4h13v9H9.5L6 16v-3H3.5zM7 7.2h6M7 9.8h4",
  pin: "M7 3h6M8 3v5l-2.5 3.5h9L12 8V3M10 11.5V17",
  more: "M4.5 10v.1M10 10v.1M15.5 10v.1",
  link: "M8.5 11.5a3 3 0 0 0 4.2 0l3-3a3 3 0 0 0-4.2-4.2l-1 1M11.5 8.5a3 3 0 0 0-4.2 0l-3 3a3 3 0 0 0 4.2 4.2l1-1",
  bell: "M5 14h10c-1-1-1.2-2.2-1.2-4.5a3.8 3.8 0 0 0-7.6 0C6.2 11.8 6 13 5 14ZM8.5 16.5a1.6 1.6 0 0 0 3 0",
  mute: "M13.6 11.5c0-.6.2-1.3.2-2a3.8 3.8 0 0 0-6.2-3M6.2 9.5C6.2 11.8 6 13 5 14h9M8.5 16.5a1.6 1.6 0 0 0 3 0M3.5 3.5l13 13",
  mail: "M3 5h14v10.5H3zM3 5.5l7 5.5 7-5.5",
  flag: "M5 17V3.5h9.5l-2 3.5 2 3.5H5",
  shield: "M10 2.8 16 5v4.6c0 3.6-2.4 6.3-6 7.6-3.6-1.3-6-4-6-7.6V5l6-2.2ZM7.4 9.8l1.9 1.9 3.4-3.6",
  save: "M10 3.5v9M6 9l4 4 4-4M4 16.5h12",
  lock: "M5 9h10v7.5H5zM7 9V6.5a3 3 0 0 1 6 0V9",
} as const;

export type IconName = keyof typeof PATHS;

/** Decoration only: the text beside it, or its button's label, carries the meaning. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
