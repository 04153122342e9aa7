/* A result folder that appears whole or not at all: everything is written to OUT.tmp, which is renamed to OUT in the
 * end. All functions are Local and meant for one process of the job. */
#ifndef SQ_IO_FOLDER_H
#define SQ_IO_FOLDER_H

#include <stdbool.h>

#include "base/status.h"

/* The name of the temporary folder: OUT without trailing slashes, then ".tmp". Released with sq_free(). */
enum sq_status sq_folder_tmp_name(const char *out, char **tmp_p) SQ_MUST_CHECK;

/* Whether there is a file or folder of this name. */
bool sq_folder_exists(const char *path);

/* SQ_ERR_IO when the folder that `out` is to stand in is not there or may not be written to; SQ_ERR_USAGE when OUT.tmp
 * is there and sq_folder_begin() would refuse it. */
enum sq_status sq_folder_check_parent(const char *out) SQ_MUST_CHECK;

/* Takes the lock OUT.tmp.lock, `tmp` being OUT.tmp, without which OUT.tmp may be another job's, and OUT may appear at
 * any moment: before one looks at OUT, until OUT.tmp is renamed or abandoned. SQ_ERR_BUSY says that OUT is in use by
 * another job, SQ_ERR_IO that the folder OUT is to stand in is not there or may not be written to. lock_p: to be
 * released with sq_lock_release(tmp). */
enum sq_status sq_folder_lock(const char *out, const char *tmp, int *lock_p) SQ_MUST_CHECK;

/* Makes a folder `tmp` with nothing in it but the file .shardq-unfinished. One that a killed run left is removed first:
 * it has that file or is empty. Anything else of that name is SQ_ERR_USAGE and left alone. SQ_ERR_IO when the folder
 * cannot be made. */
enum sq_status sq_folder_begin(const char *tmp) SQ_MUST_CHECK;

/* Removes what sq_folder_begin() made; nothing that it would have refused. */
void sq_folder_abandon(const char *tmp);

/* Renames tmp to out, everything on the disk before and after, and takes .shardq-unfinished out of it. A folder `out`
 * that is there goes away with all that is in it: the caller has made sure that it may. Killed at any moment, `out` is
 * the old folder, missing, or the new one.
 */
enum sq_status sq_folder_finish(const char *tmp, const char *out) SQ_MUST_CHECK;

/* Removes the folder and all that is in it; links are not followed. Says so when something cannot be removed. */
void sq_folder_remove(const char *path);

/* Writes a text file of the folder and brings it to the disk. */
enum sq_status sq_folder_write_text(const char *folder, const char *name, const char *text) SQ_MUST_CHECK;

#endif
