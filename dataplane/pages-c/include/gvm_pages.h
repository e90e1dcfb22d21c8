/* Remote memory for applications: see docs/pages.md. cbindgen makes this file; do not edit it. */

#ifndef GVM_PAGES_H
#define GVM_PAGES_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/*
 What functions return. What is not negative is no failure.
 */
typedef enum gvm_pages_result {
  /*
   Done.
   */
  GVM_PAGES_RESULT_OK = 0,
  /*
   A pointer is NULL, a text is no UTF-8, or a number is out of range.
   */
  GVM_PAGES_RESULT_ARGUMENT = -1,
  /*
   There is no socket at this path.
   */
  GVM_PAGES_RESULT_NO_SOCKET = -2,
  /*
   There is a socket, and nobody listens.
   */
  GVM_PAGES_RESULT_NOBODY_LISTENS = -3,
  /*
   This user may not connect.
   */
  GVM_PAGES_RESULT_PERMISSION = -4,
  /*
   The socket is one of another program.
   */
  GVM_PAGES_RESULT_OTHER_SOCKET = -5,
  /*
   The kernel refuses something.
   */
  GVM_PAGES_RESULT_SYSTEM = -6,
  /*
   The server refuses: for example the quota is used up.
   */
  GVM_PAGES_RESULT_REFUSED = -7,
  /*
   The server did not answer in time.
   */
  GVM_PAGES_RESULT_NO_ANSWER = -8,
  /*
   The server is gone. All requests have ended.
   */
  GVM_PAGES_RESULT_SERVER_GONE = -9,
  /*
   The server has another version, or a fault.
   */
  GVM_PAGES_RESULT_PROTOCOL = -10,
  /*
   No piece of the buffers is large enough.
   */
  GVM_PAGES_RESULT_NO_BUFFER = -11,
  /*
   There is no buffer with this number, or a request has it.
   */
  GVM_PAGES_RESULT_BUFFER_IN_USE = -12,
  /*
   A fault of this library.
   */
  GVM_PAGES_RESULT_INTERNAL = -13,
} gvm_pages_result;

/*
 Which way the bytes of a request go.
 */
typedef enum gvm_pages_transfer {
  /*
   From the extent into the buffer.
   */
  GVM_PAGES_TRANSFER_READ = 1,
  /*
   From the buffer into the extent.
   */
  GVM_PAGES_TRANSFER_WRITE = 2,
} gvm_pages_transfer;

/*
 How urgent a request is.
 */
typedef enum gvm_pages_lane {
  /*
   Somebody waits for it.
   */
  GVM_PAGES_LANE_DEMAND = 1,
  /*
   Nobody waits for it.
   */
  GVM_PAGES_LANE_BULK = 2,
} gvm_pages_lane;

/*
 What a connection wants of an area.
 */
typedef enum gvm_pages_area_use {
  /*
   The area with the name, whether it is there already or not.
   */
  GVM_PAGES_AREA_USE_ANY = 1,
  /*
   A new area. It must not be there yet.
   */
  GVM_PAGES_AREA_USE_NEW = 2,
  /*
   An area that is there.
   */
  GVM_PAGES_AREA_USE_EXISTING = 3,
} gvm_pages_area_use;

/*
 A connection to a server of pages.
 */
typedef struct gvm_pages gvm_pages;

/*
 What a connection wants. A number that is 0, and a name that is NULL, stand for the usual.
 */
typedef struct gvm_pages_options {
  /*
   The most requests under way: a power of two from 2 to 32768. Usually 128.
   */
  uint32_t requests;
  /*
   Extents that the connection may have at once. Usually as many as the server allows.
   */
  uint32_t extents;
  /*
   Bytes of buffers: a multiple of 4096. Usually 1 MiB.
   */
  uint64_t buffers;
  /*
   How long an answer of the server may take, in milliseconds. Usually 30000.
   */
  uint32_t patience_ms;
  /*
   How often gvm_pages_wait looks before it sleeps. Usually 200.
   */
  uint32_t spins;
  /*
   What the server's operator sees: at most 32 bytes of UTF-8. Usually the name of the program.
   */
  const char *name;
  /*
   The area that the extents are in: they stay when the connection ends. Usually none: NULL.
   */
  const char *area;
  /*
   A gvm_pages_area_use. Usually GVM_PAGES_AREA_USE_ANY.
   */
  uint32_t area_use;
} gvm_pages_options;

/*
 What a server says about a connection.
 */
typedef struct gvm_pages_totals {
  /*
   Extents that it may have at once.
   */
  uint32_t quota;
  /*
   Extents that it has, lost ones included.
   */
  uint32_t extents;
  /*
   Requests that ended.
   */
  uint64_t requests;
  /*
   Those that did not end with DONE.
   */
  uint64_t failures;
  /*
   Bytes that were read.
   */
  uint64_t bytes_read;
  /*
   Bytes that were written.
   */
  uint64_t bytes_written;
} gvm_pages_totals;

/*
 A piece of the memory that is shared with the server. It begins at a cache line.
 */
typedef struct gvm_pages_buffer {
  /*
   Its bytes. While a request has the buffer, the server reads or writes them.
   */
  void *data;
  /*
   How many: a multiple of 8.
   */
  size_t len;
  /*
   Its number in this connection.
   */
  uint32_t number;
} gvm_pages_buffer;

/*
 A request. It has its buffer until it has ended.
 */
typedef struct gvm_pages_request {
  /*
   Comes back in the completion.
   */
  uint64_t tag;
  /*
   The extent.
   */
  uint64_t extent;
  /*
   Where in the extent, in bytes: a multiple of 8.
   */
  uint32_t offset;
  /*
   How many bytes, from the begin of the buffer on: a multiple of 8.
   */
  uint32_t len;
  /*
   The number of the buffer.
   */
  uint32_t buffer;
  /*
   A gvm_pages_transfer.
   */
  uint32_t transfer;
  /*
   A gvm_pages_lane.
   */
  uint32_t lane;
} gvm_pages_request;

/*
 A request that has ended. Its buffer can be used again.
 */
typedef struct gvm_pages_completion {
  /*
   The tag of the request.
   */
  uint64_t tag;
  /*
   How it ended: 0 is done; gvm_pages_status_name has the names.
   */
  uint32_t status;
  /*
   Bytes that were transferred.
   */
  uint32_t len;
  /*
   The number of the buffer.
   */
  uint32_t buffer;
} gvm_pages_completion;

/*
 What a server says about an extent of its own accord.
 */
typedef struct gvm_pages_notice {
  /*
   The extent.
   */
  uint64_t extent;
  /*
   0: the extent is wanted back. Else it is lost, and this is the status of its requests.
   */
  uint32_t status;
  /*
   In which time it is wanted back, in milliseconds. After that it is lost.
   */
  uint32_t within_ms;
} gvm_pages_notice;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Connects to the server that listens at a socket. `options` may be NULL. The connection is stored into `*connection`;
 end it with gvm_pages_disconnect.

 # Safety
 `path` and the names are texts that end with a zero byte; the other pointers are valid or NULL.
 */
int gvm_pages_connect(const char *path,
                      const struct gvm_pages_options *options,
                      struct gvm_pages **connection);

/*
 Ends a connection: its requests and buffers, and its extents unless they are in an area. NULL is ignored.

 # Safety
 It was given by gvm_pages_connect, and nobody uses it or its buffers any more.
 */
void gvm_pages_disconnect(struct gvm_pages *connection);

/*
 What went wrong last in this thread, and what helps. The text lasts until the thread's next failure.
 */
const char *gvm_pages_last_error(void);

/*
 The name of a status: "DONE", "SLAVE_GONE", ...
 */
const char *gvm_pages_status_name(uint32_t status);

/*
 The most requests under way. It is what the server gave, and may be less than wanted. 0 for NULL.

 # Safety
 The connection is valid or NULL.
 */
uint32_t gvm_pages_capacity(const struct gvm_pages *connection);

/*
 Allocates `count` extents of 2 MiB, all or none, and stores their numbers. With `apart` (not 0) each is in another
 failure domain.

 # Safety
 The connection is valid, and `extents` has room for `count` numbers.
 */
int gvm_pages_allocate(struct gvm_pages *connection,
                       uint64_t *extents,
                       uint32_t count,
                       int apart);

/*
 Frees extents. Those that the connection does not have are ignored.

 # Safety
 The connection is valid, and `extents` has `count` numbers.
 */
int gvm_pages_free(struct gvm_pages *connection, const uint64_t *extents, size_t count);

/*
 Stores the numbers of at most `most` of the extents that the connection's area had when it was made, in the order in
 which they were allocated, and returns how many there are. 0 without an area.

 # Safety
 The connection is valid, and `extents` has room for `most` numbers, or is NULL with `most` 0.
 */
int gvm_pages_extents(struct gvm_pages *connection,
                      uint64_t *extents,
                      size_t most);

/*
 The connection's area is to be none any more: its name is free, and its extents are freed when the connection ends.

 # Safety
 The connection is valid.
 */
int gvm_pages_remove_area(struct gvm_pages *connection);

/*
 Asks the server what it has counted for the connection, and stores it.

 # Safety
 The connection is valid, and `totals` is valid or NULL.
 */
int gvm_pages_state(struct gvm_pages *connection, struct gvm_pages_totals *totals);

/*
 Takes a buffer of `len` bytes, rounded up to a multiple of 8.

 # Safety
 The connection is valid, and `buffer` is valid or NULL.
 */
int gvm_pages_take_buffer(struct gvm_pages *connection, size_t len, struct gvm_pages_buffer *buffer);

/*
 Gives a buffer back. It fails while a request has the buffer.

 # Safety
 The connection is valid, and nobody uses the bytes of the buffer any more.
 */
int gvm_pages_give_buffer(struct gvm_pages *connection, uint32_t number);

/*
 Posts requests from the begin of the array on, as many as can be under way, and returns how many. If one of these
 makes no sense, none is posted.

 # Safety
 The connection is valid, and `requests` has `count` elements.
 */
int gvm_pages_post(struct gvm_pages *connection,
                   const struct gvm_pages_request *requests,
                   size_t count);

/*
 Stores at most `most` requests that have ended, and returns how many. It does not wait.

 # Safety
 The connection is valid, and `completions` has room for `most` elements.
 */
int gvm_pages_poll(struct gvm_pages *connection, struct gvm_pages_completion *completions, size_t most);

/*
 As gvm_pages_poll, but waits until a request has ended or a notice has come, at most `timeout_ms` milliseconds; -1
 is for ever. It does not wait if no request is under way.

 # Safety
 The connection is valid, and `completions` has room for `most` elements.
 */
int gvm_pages_wait(struct gvm_pages *connection,
                   struct gvm_pages_completion *completions,
                   size_t most,
                   int timeout_ms);

/*
 Stores what the server said about an extent, and returns 1; 0 if there is nothing.

 # Safety
 The connection is valid, and `notice` is valid or NULL.
 */
int gvm_pages_next_notice(struct gvm_pages *connection, struct gvm_pages_notice *notice);

/*
 The descriptor to sleep on in an event loop of the program. It belongs to the connection.

 # Safety
 The connection is valid.
 */
int gvm_pages_descriptor(struct gvm_pages *connection);

/*
 Prepares to sleep on the descriptor. If it returns 1, the descriptor becomes readable when a request has ended, a
 notice has come, or the server is gone; then call gvm_pages_poll. If it returns 0, call that at once.

 # Safety
 The connection is valid.
 */
int gvm_pages_arm(struct gvm_pages *connection);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* GVM_PAGES_H */
