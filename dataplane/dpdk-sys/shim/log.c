/* Passes EAL's log, line by line, to the sink of the caller that started it. */
#define _GNU_SOURCE
#include "shim.h"

#include <rte_errno.h>
#include <rte_log.h>
#include <rte_version.h>

#include <errno.h>
#include <stdio.h>

static shim_log_fn log_sink;

static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	log_sink(level < 0 ? RTE_LOG_INFO : (uint32_t)level, text, len);
	return (ssize_t)len;
}

int shim_log_to(shim_log_fn sink)
{
	static const cookie_io_functions_t functions = { .write = log_write };
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream == NULL)
		return -errno;
	log_sink = sink;
	setvbuf(stream, NULL, _IOLBF, 0);
	return rte_openlog_stream(stream);
}

const char *shim_error(int error)
{
	return rte_strerror(error < 0 ? -error : error);
}

const char *shim_version(void)
{
	return rte_version();
}
