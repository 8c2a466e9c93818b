/* What the files of the simulated kernel share: objects, which live as long as a descriptor or a
 * mapping of any process refers to them. */
#ifndef KERNEL_H
#define KERNEL_H

#include "world.h"

enum kind { MEMORY, PIPE, SOCKET, WATCH };
enum { READ_END, WRITE_END };

struct object {
    enum kind kind;
    int ends[2]; /* descriptors of each; of memory: and mappings */
    size_t size; /* of memory; of a pipe: its room */
    size_t first, count;
    struct process *process; /* of a watch */
    _Alignas(64) unsigned char bytes[];
};

/* descriptors.c */
struct object *object_make(enum kind kind, size_t size);
void object_let_go(struct object *object); /* if nothing refers to it any more */
struct object *object_of(int fd, enum kind kind);
int descriptor_open(struct object *object, int end, struct process *owner);
bool descriptors_exhausted(void); /* now and then there is none to be had: errno */
void descriptors_drop_all(const struct process *owner); /* NULL: of everybody */
void descriptors_check_none(const struct process *owner);

/* memory.c */
void memory_drop_all(struct process *owner);
void memory_check_none(const struct process *owner);

#endif
