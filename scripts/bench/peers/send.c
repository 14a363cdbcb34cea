/*
 * The floor of the machine, in C: each message is written to each TCP socket once by send(2), as one ready frame, and
 * nothing else is done. No Redis, no WebSocket library, no second replica. With WINDOW, in ms, the frames of that time
 * are one write. It does what sockets.ts does in Node. Linux only, and for the benchmark's generator only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MOST 20000
#define ROOMS 1024

typedef struct {
  char *bytes;
  size_t length, room;
} Bytes;

/* in: what is not yet a whole frame. out: what the socket did not take. place: its index in the room. */
typedef struct {
  int fd, room, place;
  Bytes in, out;
} Connection;

typedef struct {
  char name[64];
  int *members, count, size;
  Bytes waiting;
} Room;

static Connection *connections[MOST];
static Room rooms[ROOMS];
static int roomCount, poll, timer, isTimerSet;
static long windowMs;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void append(Bytes *to, const char *bytes, size_t length) {
  if (to->length + length > to->room) {
    to->room = 2 * (to->length + length);
    to->bytes = realloc(to->bytes, to->room);
    if (!to->bytes) die("realloc");
  }
  memcpy(to->bytes + to->length, bytes, length);
  to->length += length;
}

static void drop(Bytes *from, size_t length) {
  from->length -= length;
  memmove(from->bytes, from->bytes + length, from->length);
}

static void watch(Connection *connection, int operation, unsigned events) {
  struct epoll_event event = {.events = events, .data.fd = connection->fd};
  if (epoll_ctl(poll, operation, connection->fd, &event) < 0) die("epoll_ctl");
}

static void leave(Connection *connection) {
  if (connection->room >= 0) {
    Room *room = &rooms[connection->room];
    int last = room->members[--room->count];
    room->members[connection->place] = last;
    connections[last]->place = connection->place;
  }
  connections[connection->fd] = NULL;
  close(connection->fd);
  free(connection->in.bytes);
  free(connection->out.bytes);
  free(connection);
}

/* A connection that fails here is left to epoll, which reports it. */
static void write_to(Connection *connection, const char *bytes, size_t length) {
  size_t sent = 0;
  if (connection->out.length == 0) {
    ssize_t taken = send(connection->fd, bytes, length, MSG_NOSIGNAL);
    if (taken < 0 && errno != EAGAIN) return;
    if (taken > 0) sent = (size_t)taken;
    if (sent == length) return;
    watch(connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  }
  append(&connection->out, bytes + sent, length - sent);
}

static void go_on_writing(Connection *connection) {
  Bytes *out = &connection->out;
  ssize_t taken = send(connection->fd, out->bytes, out->length, MSG_NOSIGNAL);
  if (taken > 0) drop(out, (size_t)taken);
  if (out->length == 0) watch(connection, EPOLL_CTL_MOD, EPOLLIN);
}

static void write_all(Room *room, const char *bytes, size_t length) {
  for (int index = 0; index < room->count; index++) write_to(connections[room->members[index]], bytes, length);
}

static void set_timer(void) {
  struct itimerspec when = {.it_value = {windowMs / 1000, windowMs % 1000 * 1000000}};
  if (timerfd_settime(timer, 0, &when, NULL) < 0) die("timerfd_settime");
  isTimerSet = 1;
}

static void tell(Room *room, const char *frame, size_t length) {
  if (windowMs == 0) {
    write_all(room, frame, length);
    return;
  }
  append(&room->waiting, frame, length);
  if (!isTimerSet) set_timer();
}

static void flush_all(void) {
  isTimerSet = 0;
  for (int index = 0; index < roomCount; index++) {
    Room *room = &rooms[index];
    if (room->waiting.length > 0) write_all(room, room->waiting.bytes, room->waiting.length);
    room->waiting.length = 0;
  }
}

static void enter(Connection *connection, const char *name) {
  int index = 0;
  while (index < roomCount && strcmp(rooms[index].name, name) != 0) index++;
  if (index == ROOMS) die("too many rooms");
  if (index == roomCount) snprintf(rooms[roomCount++].name, sizeof rooms[0].name, "%s", name);
  Room *room = &rooms[index];
  if (room->count == room->size) {
    room->size = 2 * room->size + 16;
    room->members = realloc(room->members, (size_t)room->size * sizeof(int));
    if (!room->members) die("realloc");
  }
  connection->room = index;
  connection->place = room->count;
  room->members[room->count++] = connection->fd;
}

/* The generator offers the key of RFC 6455's example: its answer is known, and any other key is refused. */
static int upgrade(Connection *connection) {
  static const char answer[] =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
  char name[64];
  append(&connection->in, "", 1);
  char *end = strstr(connection->in.bytes, "\r\n\r\n");
  connection->in.length -= 1;
  if (!end) return 1;
  if (!strstr(connection->in.bytes, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")) return 0;
  if (sscanf(connection->in.bytes, "GET %63s HTTP/1.1", name) != 1) return 0;
  drop(&connection->in, (size_t)(end + 4 - connection->in.bytes));
  enter(connection, name);
  write_to(connection, answer, sizeof answer - 1);
  return 1;
}

/* The generator's mask is zero: what is behind it is sent on as it is. */
static void take_frames(Connection *connection) {
  Bytes *in = &connection->in;
  size_t at = 0;
  while (in->length - at >= 4) {
    unsigned char *head = (unsigned char *)in->bytes + at;
    size_t length = head[1] & 0x7f, start = 2;
    if (length == 126) {
      length = (size_t)head[2] << 8 | head[3];
      start = 4;
    }
    if (in->length - at < start + 4 + length) break;
    /* The head moves up to the payload, over the mask. */
    head[1] &= 0x7f;
    memmove(head + 4, head, start);
    tell(&rooms[connection->room], (char *)head + 4, start + length);
    at += start + 4 + length;
  }
  if (at > 0) drop(in, at);
}

static void take(Connection *connection) {
  static char buffer[65536];
  ssize_t got = read(connection->fd, buffer, sizeof buffer);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    leave(connection);
    return;
  }
  append(&connection->in, buffer, (size_t)got);
  if (connection->room < 0 && !upgrade(connection)) {
    leave(connection);
    return;
  }
  if (connection->room >= 0) take_frames(connection);
}

static void accept_one(int listener) {
  int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
  if (fd < 0) return;
  if (fd >= MOST) {
    close(fd);
    return;
  }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  Connection *connection = calloc(1, sizeof *connection);
  if (!connection) die("calloc");
  connection->fd = fd;
  connection->room = -1;
  connections[fd] = connection;
  watch(connection, EPOLL_CTL_ADD, EPOLLIN);
}

int main(void) {
  const char *window = getenv("WINDOW");
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  windowMs = window ? strtol(window, NULL, 10) : 0;
  poll = epoll_create1(0);
  timer = timerfd_create(CLOCK_MONOTONIC, 0);
  if (listener < 0 || poll < 0 || timer < 0) die("socket");
  if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 4096) < 0) die("listen");
  if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) die("getsockname");
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) < 0) die("epoll_ctl");
  event.data.fd = timer;
  if (epoll_ctl(poll, EPOLL_CTL_ADD, timer, &event) < 0) die("epoll_ctl");
  printf("listens on %d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(poll, events, 256, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int index = 0; index < count; index++) {
      int fd = events[index].data.fd;
      if (fd == listener) {
        accept_one(listener);
      } else if (fd == timer) {
        unsigned long long times;
        if (read(timer, &times, sizeof times) > 0) flush_all();
      } else if (connections[fd]) {
        if (events[index].events & EPOLLOUT) go_on_writing(connections[fd]);
        if (events[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take(connections[fd]);
      }
    }
  }
}
