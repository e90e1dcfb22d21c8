/* Writes pages into remote memory, reads them back, and compares.
 *
 *   cc -o pages pages.c $(pkg-config --cflags --libs gvm-pages)
 *   ./pages /run/gvm-dp/pages.sock
 */
#include <gvm_pages.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PAGE = 4096, PAGES = 64, EXTENTS = 2 };

static uint8_t byte_of(uint64_t page, size_t at) { return (uint8_t)(page * 31 + at * 7); }

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, gvm_pages_last_error());
    return 1;
}

/* Moves all pages, and returns how many requests ended as they should. */
static int move(gvm_pages *pages, const uint64_t *extents, gvm_pages_buffer *buffers, uint32_t transfer) {
    gvm_pages_request requests[PAGES];
    gvm_pages_completion ended[16];
    int posted = 0, done = 0, good = 0;

    for (uint32_t page = 0; page < PAGES; page++) {
        requests[page] = (gvm_pages_request){
            .tag = page,
            .extent = extents[page % EXTENTS],
            .offset = page / EXTENTS * PAGE,
            .len = PAGE,
            .buffer = buffers[page].number,
            .transfer = transfer,
            .lane = GVM_PAGES_LANE_DEMAND,
        };
    }
    while (done < PAGES) {
        int count = gvm_pages_post(pages, requests + posted, PAGES - (size_t)posted);
        if (count < 0) return count;
        posted += count;
        count = gvm_pages_wait(pages, ended, 16, -1);
        if (count < 0) return count;
        done += count;
        for (int at = 0; at < count; at++) {
            if (ended[at].status == 0) {
                good++;
            } else {
                fprintf(stderr, "page %" PRIu64 ": %s\n", ended[at].tag, gvm_pages_status_name(ended[at].status));
            }
        }
    }
    return good;
}

int main(int count, char **words) {
    gvm_pages *pages = NULL;
    gvm_pages_options options = {.buffers = PAGES * PAGE, .requests = 16, .name = "example"};
    uint64_t extents[EXTENTS];
    gvm_pages_buffer buffers[PAGES];
    int good, wrong = 0;

    if (count != 2) {
        fprintf(stderr, "usage: %s SOCKET\n", words[0]);
        return 2;
    }
    if (gvm_pages_connect(words[1], &options, &pages) < 0) return fail("connect");
    if (gvm_pages_allocate(pages, extents, EXTENTS, 0) < 0) return fail("allocate");
    for (uint32_t page = 0; page < PAGES; page++) {
        if (gvm_pages_take_buffer(pages, PAGE, &buffers[page]) < 0) return fail("buffer");
        for (size_t at = 0; at < PAGE; at++) ((uint8_t *)buffers[page].data)[at] = byte_of(page, at);
    }
    if ((good = move(pages, extents, buffers, GVM_PAGES_TRANSFER_WRITE)) < 0) return fail("write");
    printf("written %d of %d pages\n", good, PAGES);
    for (uint32_t page = 0; page < PAGES; page++) memset(buffers[page].data, 0, PAGE);
    if ((good = move(pages, extents, buffers, GVM_PAGES_TRANSFER_READ)) < 0) return fail("read");
    for (uint32_t page = 0; page < PAGES; page++) {
        for (size_t at = 0; at < PAGE; at++) wrong += ((uint8_t *)buffers[page].data)[at] != byte_of(page, at);
    }
    printf("read %d of %d pages, wrong bytes %d\n", good, PAGES, wrong);
    if (gvm_pages_free(pages, extents, EXTENTS) < 0) return fail("free");
    gvm_pages_disconnect(pages);
    return good == PAGES && wrong == 0 ? 0 : 1;
}
