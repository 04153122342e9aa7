/* The pages of docs/, which the program carries with it. */
#ifndef SQ_HELP_PAGES_H
#define SQ_HELP_PAGES_H

struct sq_page {
    const char *name;    /* docs/NAME.md */
    const char *summary; /* what it is about, in a few words */
    const char *text;    /* Markdown */
};

/* What `shardq help TOPIC` shows beside the commands. */
const struct sq_page *sq_page_table(int *count_p);
const struct sq_page *sq_page_find(const char *name);

/* What the help of a command says beside its options (docs/commands/NAME.md); NULL when there is none. */
const char *sq_page_of_command(const char *name);

#endif
