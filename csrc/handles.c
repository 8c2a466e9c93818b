/* The table behind task ids. */
#include "handles.h"

#include <stdlib.h>

uint64_t pf__handles_add(struct pf__handles *handles, void *object)
{
    uint32_t place;
    if (handles->first_free != 0) {
        place = handles->first_free - 1;
        handles->first_free = handles->places[place].next_free;
    } else {
        if (handles->count == handles->room) {
            uint32_t room = handles->room != 0 ? handles->room * 2 : 64;
            struct pf__handle *places = realloc(handles->places, room * sizeof *places);
            if (places == NULL)
                return 0;
            handles->places = places;
            handles->room = room;
        }
        place = handles->count++;
        handles->places[place].turn = 0;
    }
    struct pf__handle *handle = &handles->places[place];
    handle->object = object;
    handle->turn++;
    return (uint64_t)handle->turn << 32 | place;
}

void *pf__handles_find(const struct pf__handles *handles, uint64_t id)
{
    uint32_t place = (uint32_t)id;
    if (place >= handles->count || handles->places[place].turn != (uint32_t)(id >> 32))
        return NULL;
    return handles->places[place].object;
}

void pf__handles_remove(struct pf__handles *handles, uint64_t id)
{
    if (pf__handles_find(handles, id) == NULL)
        return;
    struct pf__handle *handle = &handles->places[(uint32_t)id];
    handle->object = NULL;
    handle->next_free = handles->first_free;
    handles->first_free = (uint32_t)id + 1;
}

void pf__handles_clear(struct pf__handles *handles)
{
    free(handles->places);
    *handles = (struct pf__handles){0};
}
