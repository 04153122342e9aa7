/* shardq --version. */
#ifndef SQ_VERSION_H
#define SQ_VERSION_H

#include <stdio.h>

/* Writes the program's version and those of its libraries: as they are at run time, where a library tells. */
void sq_version_write(FILE *file);

#endif
