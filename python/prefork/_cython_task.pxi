# A task on its plain way, in one step each: no signal handler and no other thread comes in between.
# The same in Python: _cffi_task.py.

cdef object TYPES = plain.TYPES
cdef int VERSION = plain.VERSION
cdef unsigned char CALL = plain.CALL[0]
cdef bint RESULTS[256]
cdef int each_byte
for each_byte in range(256):
    RESULTS[each_byte] = each_byte in plain.RESULTS
cdef dict references = plain.references
cdef dict known = plain.known
cdef object new_reference = plain.reference_to
cdef object find = plain.find


cdef class TaskState:
    cdef public object _pool, _name, _correlation_id, _limit
    cdef public object _state, _data, _result, _exception, _slot
    cdef public uint64_t _number
    cdef public int _accepted_by
    cdef public bint _is_plain

    def __cinit__(self): # takes what __init__ takes
        self._state = PENDING
        self._is_plain = True

    def __init__(self, pool, name, correlation_id, limit=None):
        self._pool = pool
        self._name = name
        self._correlation_id = correlation_id
        self._limit = limit

    def has_value(self):
        # First: who settles it puts the bytes there, and clears _result then.
        if self._state is not FINISHED:
            return False
        cdef bytes data = self._data
        if data is None:
            return self._exception is None
        failure = None
        try:
            if len(data) > 0 and RESULTS[<unsigned char>(<const char *>data)[0]]:
                result = PyMarshal_ReadObjectFromString(data, len(data))
            else:
                result = loads(data)
        except BaseException as error:
            failure = error
        if failure is not None: # outside, that none has another for its context
            self._unpack(failure)
            return self._exception is None
        if self._data is not None: # else somebody else was sooner
            self._result = result
            self._data = None
        return self._exception is None


# As codec.encode_call.
cdef bytes encode_call(target, tuple args, kwargs):
    if type(target) is not FunctionType:
        return codec.encode_call(target, args, kwargs)
    reference = references.get(target)
    if reference is None:
        reference = new_reference(target)
    cdef bytes data = None
    if not kwargs and is_plain(args):
        data = dump((reference, args))
    return dumps((reference, args, kwargs, None), PROTOCOL) if data is None else data


cdef bint is_plain(tuple args) except -1:
    for each in args:
        if type(each) not in TYPES:
            return False
    return True


# As codec.decode_call.
cdef tuple decode_call(const char *body, size_t size):
    if <unsigned char>body[0] == CALL:
        reference, args = PyMarshal_ReadObjectFromString(body, size)
        return function_of(reference), args, None, None
    try:
        target, args, kwargs, correlation_id = loads(PyBytes_FromStringAndSize(body, size))
    except (AttributeError, ModuleNotFoundError) as error:
        raise plain.cannot_find(error) from error
    if type(target) is bytes:
        target = function_of(target)
    return target, args, kwargs, correlation_id


cdef object function_of(bytes reference):
    found = known.get(reference)
    return find(reference) if found is None else found


cdef bytes dump(what):
    try:
        return PyMarshal_WriteObjectToString(what, VERSION)
    except ValueError: # of 2 GiB and more
        return None


# The end of a task that has a result, and of which nobody wants to be told. False: it is no such
# end.
cdef bint settle_plain(delivery, dict tasks, pf.pf_event *event) except -1:
    if (event.type != pf.PF_EVENT_DONE or event.outcome != pf.PF_OK or event.data == NULL or
            event.softened):
        return False
    number = event.task
    cdef TaskState task = tasks.get(number)
    if task is None or not task._is_plain:
        return False
    cdef bytes data
    try:
        data = PyBytes_FromStringAndSize(<char *>event.data, event.size)
    except MemoryError:
        return False
    hand = task._slot
    if hand:
        delivery.slots.free.append(hand.pop())
    task._accepted_by = event.pid
    task._data = data
    task._state = FINISHED
    del tasks[number]
    return True
