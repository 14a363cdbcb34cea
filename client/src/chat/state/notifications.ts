export type NotificationsState = {
  /** There was something to notify, and the user has not yet chosen whether they want that. */
  notificationsWanted: boolean;
};

export const initialNotifications: NotificationsState = { notificationsWanted: false };

export type NotificationsEvent = { type: "notifications wanted"; on: boolean };

export function applyNotifications<S extends NotificationsState>(state: S, event: NotificationsEvent): S {
  return state.notificationsWanted === event.on ? state : { ...state, notificationsWanted: event.on };
}
